// Calls the OpenAI SDK for Node as it is told: one JSON line in, one JSON line out, until standard input ends.
//
// In:  {"url", "key", "family": "v1" | "openai_v1" | "azure", "options": {…}, "method": "chat.completions.create",
//       "body": {…}, "file": {"name", "base64"}}
// Out: {"value"}, {"base64"} for sound, or {"events"} for a stream; {"error"} beside the events that came before it.
import { File } from "node:buffer";
import { createInterface } from "node:readline";
import { AzureOpenAI, OpenAI, toFile } from "openai";

globalThis.File ??= File; // Node 18, which Debian 12 has, keeps it in a module

function clientFor({ url, key, family, options }) {
  const common = { apiKey: key, maxRetries: 0, ...options };
  if (family === "azure") return new AzureOpenAI({ endpoint: url, apiVersion: "2024-06-01", ...common });
  return new OpenAI({ baseURL: `${url}/${family === "v1" ? "v1" : "openai/v1/"}`, ...common });
}

function describe(error) {
  return {
    class: error.constructor.name,
    status: error.status ?? null,
    code: error.code ?? null,
    param: error.param ?? null,
    message: error.message,
    request_id: error.requestID ?? null,
    headers: Object.fromEntries(error.headers ?? []),
  };
}

async function answer(told) {
  const events = [];
  try {
    const client = clientFor(told);
    const names = told.method.split(".");
    const method = names.pop();
    const resource = names.reduce((inner, name) => inner[name], client);
    const body = told.body;
    if (told.file) body.file = await toFile(Buffer.from(told.file.base64, "base64"), told.file.name);
    const result = await resource[method](body);
    if (body?.stream) {
      for await (const event of result) events.push(event);
      return { events };
    }
    if (result instanceof Response) return { base64: Buffer.from(await result.arrayBuffer()).toString("base64") };
    return { value: result };
  } catch (error) {
    return { error: describe(error), events };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
