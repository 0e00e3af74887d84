// mcp.mjs FOLDER URL TOKEN CALLS: the protocol's own client asks a host. FOLDER has the packages of package.json; CALLS is a
// list of { name, arguments }, as JSON. Prints what it saw, as JSON.
import { createRequire } from "node:module";

const [folder, url, token, calls] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { Client } = await import(require.resolve("@modelcontextprotocol/sdk/client/index.js").replace("/cjs/", "/esm/"));
const { StreamableHTTPClientTransport } =
  await import(require.resolve("@modelcontextprotocol/sdk/client/streamableHttp.js").replace("/cjs/", "/esm/"));

const client = new Client({ name: "a spec", version: "1" });
const transport = new StreamableHTTPClientTransport(new URL(url),
  { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
try {
  await client.connect(transport);
  await client.ping();
  const { tools } = await client.listTools();
  const answers = [];
  for (const call of JSON.parse(calls)) {
    answers.push(await client.callTool(call).catch((e) => ({ refused: e.code, message: e.message })));
  }
  console.log(JSON.stringify({ server: client.getServerVersion(), version: transport.protocolVersion, tools, answers }));
  await client.close();
} catch (e) {
  console.log(JSON.stringify({ failed: e.message, code: e.code }));
}
