// An OpenAI-compatible server without batches and files: chat and models, answered by a small model on this machine.
// node server.mjs MODEL.gguf PORT SEQUENCES; it prints a line for each chat that it has answered.

import http from "node:http";
import {getLlama, LlamaChatSession} from "node-llama-cpp";

const NAME = "smollm2-135m";
const [modelPath, port, sequences] = process.argv.slice(2);

const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: 1024, sequences: Number(sequences), threads: 1});
const free = Array.from({length: Number(sequences)}, () => context.getSequence());
const waiting = [];

function take() {
  return free.length ? Promise.resolve(free.pop()) : new Promise((given) => waiting.push(given));
}

function giveBack(sequence) {
  const next = waiting.shift();
  next ? next(sequence) : free.push(sequence);
}

async function chat(body) {
  const texts = (role) => body.messages.filter((message) => message.role === role).map((message) => message.content);
  const schema = body.response_format?.json_schema?.schema;
  const grammar = schema && (await llama.createGrammarForJsonSchema(schema));
  const sequence = await take();
  try {
    await sequence.clearHistory();
    const before = sequence.tokenMeter.getState();
    const session = new LlamaChatSession({
      contextSequence: sequence,
      systemPrompt: texts("system").join("\n") || undefined,
      autoDisposeSequence: false,
    });
    const {responseText, stopReason} = await session.promptWithMeta(texts("user").join("\n"), {
      grammar,
      maxTokens: body.max_completion_tokens ?? body.max_tokens ?? 64,
      temperature: 0,
    });
    session.dispose();
    const used = sequence.tokenMeter.diff(before);
    return {
      id: `chatcmpl-${Date.now()}`,
      object: "chat.completion",
      model: NAME,
      choices: [
        {
          index: 0,
          message: {role: "assistant", content: responseText},
          finish_reason: stopReason === "maxTokens" ? "length" : "stop",
        },
      ],
      usage: {
        prompt_tokens: used.usedInputTokens,
        completion_tokens: used.usedOutputTokens,
        total_tokens: used.usedInputTokens + used.usedOutputTokens,
      },
    };
  } finally {
    giveBack(sequence);
  }
}

function answer(reply, status, value) {
  const data = JSON.stringify(value);
  reply.writeHead(status, {"Content-Type": "application/json", "Content-Length": Buffer.byteLength(data)});
  reply.end(data);
}

function refuse(reply, code, message, type) {
  answer(reply, code, {error: {code, message, type}});
}

http
  .createServer(async (request, reply) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    if (request.method === "GET" && request.url === "/v1/models") {
      answer(reply, 200, {object: "list", data: [{id: NAME, object: "model", created: 0, owned_by: "local"}]});
    } else if (request.method === "POST" && request.url === "/v1/chat/completions") {
      try {
        const done = await chat(JSON.parse(Buffer.concat(chunks).toString()));
        console.log(`answered ${done.usage.total_tokens}`);
        answer(reply, 200, done);
      } catch (error) {
        refuse(reply, 400, String(error.message ?? error), "invalid_request_error");
      }
    } else {
      refuse(reply, 404, "File Not Found", "not_found_error");
    }
  })
  .listen(Number(port), "127.0.0.1", () => console.log("listening"));
