// OpenAI's own npm package against a service at BASE_URL; prints what came of it as JSON.
//
//     node client.mjs SCENARIO BASE_URL RECORDING [KEY]

import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const [scenario, baseURL, recording, apiKey = "not needed here"] = process.argv.slice(2);
const client = (options = {}) => new OpenAI({ baseURL, apiKey, timeout: 120_000, ...options });
const speech = () => createReadStream(recording);
const bytes = async () => toFile(await readFile(recording), "talk.m4a");
const ask = (fields = {}, options = {}) =>
  client(options).audio.transcriptions.create({ file: speech(), model: "whisper-1", ...fields });

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

// Give an error as the package raises it, so that a test can look at its class.
async function failure(promise) {
  try {
    return { unexpected: await promise };
  } catch (error) {
    const { status, code, param, type, requestID, message } = error;
    return { class: error.constructor.name, status, code, param, type, requestID, message };
  }
}

async function withHeaders(promise) {
  const { data, response } = await promise.withResponse();
  return { data, job: response.headers.get("X-Cesar-Job"), request: response.headers.get("x-request-id") };
}

const scenarios = {
  formats: async () => ({
    json: await ask(),
    text: await ask({ response_format: "text" }),
    srt: await ask({ response_format: "srt" }),
    vtt: await ask({ response_format: "vtt" }),
    verbose: await ask({ response_format: "verbose_json" }),
    words: await ask({ response_format: "verbose_json", timestamp_granularities: ["word"] }),
    both: await ask({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"] }),
  }),

  fields: async () => ({
    language: await ask({ language: "en", response_format: "verbose_json" }),
    languages: await ask({ model: "gpt-transcribe", languages: ["en", "de"] }),
    keywords: await ask({ model: "gpt-transcribe", keywords: ["fellow", "country"] }),
    strategy: await ask({ model: "gpt-4o-transcribe", chunking_strategy: { type: "server_vad", threshold: 0.4 } }),
    automatic: await ask({ model: "gpt-4o-transcribe", chunking_strategy: "auto" }),
    prompt: await withHeaders(ask({ prompt: "A speech.", temperature: 0, hotwords: "fellow" })),
    bytes: await ask({ file: await bytes() }),
  }),

  translations: async () => {
    const translate = (fields = {}) =>
      client().audio.translations.create({ file: speech(), model: "whisper-1", ...fields });
    return {
      json: await translate(),
      text: await translate({ response_format: "text" }),
      srt: await translate({ response_format: "srt" }),
      vtt: await translate({ response_format: "vtt" }),
      verbose: await translate({ response_format: "verbose_json" }),
    };
  },

  models: async () => ({
    list: (await client().models.list()).data,
    one: await client().models.retrieve("whisper-1"),
  }),

  stream: async () => collect(await ask({ model: "gpt-4o-transcribe", stream: true })),

  errors: async () => ({
    model: await failure(ask({ model: "whisper-99" })),
    retrieve: await failure(client().models.retrieve("whisper-99")),
    format: await failure(ask({ response_format: "docx" })),
    speakers: await failure(ask({ model: "gpt-4o-transcribe-diarize", response_format: "diarized_json" })),
    recording: await failure(ask({ file: await toFile(Buffer.from("no recording"), "talk.mp3") })),
  }),

  key: async () => failure(ask()),

  refused: async () => failure(ask({}, { maxRetries: 0 })),

  // The package sends bytes again when a connection breaks; a stream it can read only once.
  impatient: async () => failure(ask({ file: await bytes() }, { timeout: 500 })),

  persistent: async () => withHeaders(ask({ file: await bytes() }, { timeout: 2_000, maxRetries: 30 })),

  patient: async () => withHeaders(ask({ file: await bytes() }, { maxRetries: 30 })),
};

console.log(JSON.stringify(await scenarios[scenario]()));
