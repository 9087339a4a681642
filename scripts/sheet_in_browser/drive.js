// node drive.js PAGE FOLDER: answers a sheet in a real browser by keys and clicks, opens
// it again in the middle, saves it, forgets everything, and loads the saved file again. It leaves
// the file and a picture in FOLDER. CHROMIUM is the browser; puppeteer-core is looked for in the
// current folder.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const {createRequire} = require("node:module");
const {pathToFileURL} = require("node:url");

const [file, folder] = process.argv.slice(2).map((name) => path.resolve(name));
const KEYS = {left: ["1", "ArrowLeft"], right: ["2", "ArrowRight"], tie: ["3", "ArrowUp"]};
const FLAGS = ["--no-sandbox", "--no-zygote", "--single-process", "--disable-gpu"];

// What is chosen in a row: it depends on its id alone, and one row of eight has no answer.
function choice(row) {
  const sum = [...row].reduce((total, letter) => total + letter.charCodeAt(0), 0);
  return sum % 8 ? ["left", "right", "tie", "right"][sum % 4] : "";
}

function want(what, got, wanted) {
  if (String(got) !== String(wanted)) throw new Error(`${what}: got ${got}, want ${wanted}`);
}

(async () => {
  const found = createRequire(path.join(process.cwd(), "x.js")).resolve("puppeteer-core");
  const {default: puppeteer} = await import(pathToFileURL(found));
  const browser = await puppeteer.launch(
    {executablePath: process.env.CHROMIUM, headless: "shell", args: FLAGS});
  const page = await browser.newPage();
  const errors = [];
  page.on("console", (message) => errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => /^(http|ws)/.test(request.url()) && errors.push(request.url()));
  const session = await page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", {behavior: "allow", downloadPath: folder});
  await page.setViewport({width: 1200, height: 900});
  await page.goto(pathToFileURL(file));

  const text = (id) => page.$eval(`#${id}`, (element) => element.textContent);
  const shown = () => page.$$eval("[data-row]", (all) => all.findIndex((row) => !row.hidden));
  const rows = await page.$$eval("[data-row]", (all) => all.map((row) => row.dataset.row));
  for (const [at, row] of rows.entries()) {
    want("row", await shown(), at);
    if (!choice(row)) await page.keyboard.press("n");
    else if (at % 3 < 2) await page.keyboard.press(KEYS[choice(row)][at % 3]);
    else await page.click(`#${choice(row)}`);
    await page.evaluate(() => document.activeElement.blur());
    if (at === 10) await page.reload();
    while (at < rows.length - 1 && await shown() < at + 1) await page.keyboard.press("n");
  }
  const count = `${rows.filter(choice).length} of ${rows.length} answered`;
  want("answered", await text("count"), count);
  await page.click("#save");
  const [, name] = (await text("said")).match(/answers as (.*)\.$/);
  for (let i = 0; i < 50 && !fs.existsSync(path.join(folder, name)); i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await page.evaluate(() => localStorage.clear());
  await page.reload();
  want("forgotten", await text("count"), `0 of ${rows.length} answered`);
  await (await page.$("#picked")).uploadFile(path.join(folder, name));
  await page.waitForFunction((words) => document.getElementById("count").textContent === words,
    {timeout: 5000}, count);
  await page.screenshot({path: path.join(folder, `${name}.png`)});
  want("errors and requests", errors, []);
  console.log(`${name}: ${count}, by keys and clicks, opened again, saved and loaded`);
  await browser.close();
})().catch((error) => { console.error(error.message); process.exit(1); });
