// openapi.mjs FOLDER DOCUMENT CALLS: is the document OpenAPI 3.1, are all schemas in it JSON Schema, and do calls and their
// answers keep to it? FOLDER has the packages of package.json; CALLS is a list of { operation, input, status, answer }, input
// and answer as text. Prints what is wrong.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, documentPath, callsPath] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { Validator } = await import(require.resolve("@seriousme/openapi-schema-validator"));
const { default: Ajv } = require("ajv/dist/2020.js");
const addFormats = require("ajv-formats");
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const faults = [];

const document = read(documentPath);
const verdict = await new Validator().validate(read(documentPath)); // it changes what it is given
if (!verdict.valid) faults.push(`the document: ${JSON.stringify(verdict.errors)}`);

const ajv = new Ajv({ strict: true, allowUnionTypes: true, allErrors: true });
addFormats(ajv);
ajv.addFormat("decimal", /^-?\d+(\.\d+)?$/); // of the registry of OpenAPI formats

ajv.addKeyword("components"); // what references point into
function check(what, schema, value) {
  try {
    const validate = ajv.compile({ ...schema, components: document.components });
    if (value !== undefined && !validate(value)) faults.push(`${what}: ${ajv.errorsText(validate.errors)}`);
  } catch (e) {
    faults.push(`${what}: ${e.message}`);
  }
}

const content = (part) => part.content["application/json"].schema;
const seen = new Set();
for (const { operation, status, ...texts } of read(callsPath)) {
  const post = document.paths[`/api/ops/${operation}`].post;
  const [input, answer] = [JSON.parse(texts.input), JSON.parse(texts.answer)];
  seen.add(operation);
  check(`the input of ${operation}`, content(post.requestBody), input);
  if (status === 200) check(`the answer of ${operation}`, content(post.responses["200"]), answer);
  else check(`the error of ${operation}`, content(post.responses.default), answer);
}
for (const path of Object.keys(document.paths)) {
  if (!seen.has(path.split("/").pop())) faults.push(`${path} was not called`);
}
for (const fault of faults) console.log(fault);
process.exit(faults.length ? 1 : 0);
