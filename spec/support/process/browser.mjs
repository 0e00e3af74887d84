// browser.mjs FOLDER ANSWERS: a headless Chromium that obeys lines of JSON on stdin and answers each with one in the file
// ANSWERS: { value } or { error }. FOLDER has the packages of npm/package.json.
//   { "do": "open", "with": url, "width": 390, "height": 844, "dark": true }   a new page, in a session of its own
//   { "do": "wait", "with": expression }     until it is true in the page
//   { "do": "value", "with": expression }    what it is there
//   { "do": "type", "with": text }           into what has the focus
//   { "do": "press", "with": key }           "Tab", "Enter", …
//   { "do": "shot", "with": path }           the whole page as PNG
//   { "do": "problems" }                     errors of the page and of its console since it was opened
import { createWriteStream, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, answers] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { launch } = (await import(require.resolve("puppeteer-core"))).default;
const places = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"];
const browser = await launch({ executablePath: places.find(existsSync), headless: "shell",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const out = createWriteStream(answers);
let page, session, problems = [];

const orders = {
  async open(url, { width = 1440, height = 900, dark = false }) {
    if (session) await session.close();
    session = await browser.createBrowserContext();
    page = await session.newPage();
    problems = [];
    page.on("pageerror", e => problems.push(String(e)));
    page.on("console", message => {
      if (message.type() === "error" && !/Failed to load resource/.test(message.text())) problems.push(message.text());
    });
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
    await page.goto(url);
  },
  async wait(expression) {
    try {
      await page.waitForFunction(expression, { timeout: 30000 });
    } catch (e) {
      throw new Error(`${expression}: ${e.message}; the page says: ${await page.evaluate("document.body.innerText")}`);
    }
  },
  value: expression => page.evaluate(expression),
  type: text => page.keyboard.type(text),
  press: key => page.keyboard.press(key),
  shot: path => page.screenshot({ path, fullPage: true }).then(() => true),
  problems: () => problems,
};

const say = answer => out.write(JSON.stringify(answer) + "\n");
say({ value: await browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    say({ value: await orders[order.do](order.with, order) ?? null });
  } catch (e) {
    say({ error: e.message });
  }
}
await browser.close();
out.end();
