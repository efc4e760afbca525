// openai-node against Waypost: prints what it saw as one JSON object. Usage: node client.mjs BASE_URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Say hello." }];

async function failure(call) {
  try {
    await call();
    return null;
  } catch (error) {
    const { status, code, param, type } = error;
    return { name: error.constructor.name, status, code, param, type, requestID: error.requestID ?? null };
  }
}

const { data: chat, response } = await client.chat.completions.create({ model: "auto", messages, max_tokens: 6 }).withResponse();

const chunks = [];
for await (const chunk of await client.chat.completions.create({ model: "auto", messages, max_tokens: 6, stream: true, stream_options: { include_usage: true } })) {
  chunks.push(chunk);
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(JSON.stringify({
  chat,
  requestID: chat._request_id,
  deployment: response.headers.get("x-waypost-deployment"),
  chunks,
  models,
  model: await client.models.retrieve("local/smollm2-135m"),
  unknown: await failure(() => client.chat.completions.create({ model: "gpt-none", messages })),
  empty: await failure(() => client.chat.completions.create({ model: "auto", messages: [] })),
  unknownModel: await failure(() => client.models.retrieve("none")),
}));
