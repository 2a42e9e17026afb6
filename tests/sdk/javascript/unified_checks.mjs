// The official SDKs of OpenAI and Anthropic for JavaScript on the unified paths, over one provider.
//
// Reads from the environment's CHECKS, as JSON: the gateway's address, a key of it, the provider's name and its
// model, and what the stub providers say. Prints a line of JSON for each check: its name, the answers and refusals
// that the ledger has to have of it, and the error if it failed.
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const { gateway, key, provider, model, script } = JSON.parse(process.env.CHECKS);
const openai = new OpenAI({ baseURL: `${gateway}/v1`, apiKey: key, maxRetries: 0, timeout: 30_000 });
const anthropic = new Anthropic({ baseURL: gateway, apiKey: key, maxRetries: 0, timeout: 30_000 });

const CHAT = 'chat_completions';
const RESPONSES = 'responses';
const MESSAGES = 'messages';
const ANSWER = script.ANSWER.join('');
const ANSWER_WITH_RESULT = script.ANSWER_WITH_RESULT.join('');
const THOUGHT = script.THOUGHT.join('');
const Price = z.object({ amount: z.number().int(), unit: z.string() });
const PriceOf = z.object({ bridge: z.string() });
const FUNCTION = { name: script.TOOL, description: script.TOOL_DESCRIPTION, parameters: script.TOOL_PARAMETERS };
const TOOL = { name: script.TOOL, description: script.TOOL_DESCRIPTION, input_schema: script.TOOL_PARAMETERS };

const asked = (content) => [{ role: 'user', content }];
const question = asked(script.QUESTION);
const thinkingQuestion = asked(`${script.QUESTION} Please ${script.THINK}.`);

async function collect(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}

/** The error of this class that the promise fails with. */
async function failure(kind, promise) {
  const error = await promise.then(() => null, (error) => error);
  assert.ok(error instanceof kind, `${error?.constructor.name}: ${error?.message}`);
  return error;
}

// Name, answers by route, what is checked, and refusals and the like by route.
const checks = [];
const check = (name, answers, run, others = {}) => checks.push({ name, answers, run, others });

// Chat completions

function hasChatUsage(usage) {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = usage;
  assert.deepEqual([prompt_tokens, completion_tokens], [script.INPUT, script.OUTPUT]);
  assert.equal(prompt_tokens_details.cached_tokens, script.CACHED);
}

check('chat', { [CHAT]: 3 }, async () => {
  const fields = { model, messages: question };
  const plain = await openai.chat.completions.create(fields);
  assert.equal(plain.choices[0].message.content, ANSWER);
  hasChatUsage(plain.usage);
  const streamed = { ...fields, stream_options: { include_usage: true } };
  const chunks = await collect(await openai.chat.completions.create({ ...streamed, stream: true }));
  const words = chunks.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
  assert.deepEqual(words, script.ANSWER);
  hasChatUsage(chunks.at(-1).usage);
  const deltas = [];
  const stream = openai.chat.completions.stream(streamed).on('content', (delta) => deltas.push(delta));
  const final = await stream.finalChatCompletion();
  assert.deepEqual(deltas.filter(Boolean), script.ANSWER);
  assert.equal(final.choices[0].message.content, ANSWER);
  hasChatUsage(final.usage);
});

check('chat with tools that the SDK runs', { [CHAT]: 4 }, async () => {
  const bridges = [];
  const price = ({ bridge }) => {
    bridges.push(bridge);
    return script.TOOL_RESULT;
  };
  const tool = zodFunction({ name: script.TOOL, parameters: PriceOf, function: price });
  const fields = { model, messages: question, tools: [tool] };
  assert.equal(await openai.chat.completions.runTools(fields).finalContent(), ANSWER_WITH_RESULT);
  assert.equal(await openai.chat.completions.runTools({ ...fields, stream: true }).finalContent(), ANSWER_WITH_RESULT);
  assert.deepEqual(bridges, [script.TOOL_ARGUMENTS.bridge, script.TOOL_ARGUMENTS.bridge]);
});

check('chat in a schema', { [CHAT]: 2 }, async () => {
  const fields = { model, messages: question, response_format: zodResponseFormat(Price, 'price') };
  const plain = await openai.chat.completions.parse(fields);
  assert.deepEqual(plain.choices[0].message.parsed, script.PRICE);
  const streamed = await openai.chat.completions.stream(fields).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.parsed, script.PRICE);
});

// OpenAI's chats show no thoughts.
if (provider !== 'openai') {
  check('chat with thoughts', { [CHAT]: 4 }, async () => {
    const fields = { model, reasoning_effort: 'low', tools: [{ type: 'function', function: FUNCTION }] };
    const request = { ...fields, messages: thinkingQuestion };
    const plain = await openai.chat.completions.create(request);
    const stream = openai.chat.completions.stream(request);
    const chunks = await collect(stream);
    const streamed = await stream.finalChatCompletion();
    // The SDK adds up the calls of a stream. Of members that it does not know it keeps the last piece.
    const pieces = (key) => chunks.flatMap(({ choices }) => choices[0]?.delta[key] ?? []);
    const { message: added } = streamed.choices[0];
    added.reasoning_content = pieces('reasoning_content').join('');
    if (added.reasoning_details) added.reasoning_details = pieces('reasoning_details');
    for (const { choices: [{ message, finish_reason }] } of [plain, streamed]) {
      assert.equal(finish_reason, 'tool_calls');
      assert.equal(message.reasoning_content, THOUGHT);
      const [call] = message.tool_calls;
      assert.deepEqual(JSON.parse(call.function.arguments), script.TOOL_ARGUMENTS);
      const result = { role: 'tool', tool_call_id: call.id, content: script.TOOL_RESULT };
      const messages = [...thinkingQuestion, message, result];
      const final = await openai.chat.completions.create({ ...fields, messages });
      assert.equal(final.choices[0].message.content, ANSWER_WITH_RESULT);
      assert.equal(final.choices[0].message.reasoning_content, THOUGHT);
    }
  });
}

// What the SDK's own helper keeps of a stream's thoughts is no proof of them, so Claude does not think further.
if (provider === 'anthropic') {
  check('chat with what the helper keeps of thoughts', { [CHAT]: 2 }, async () => {
    const fields = { model, reasoning_effort: 'low', tools: [{ type: 'function', function: FUNCTION }] };
    const streamed = await openai.chat.completions.stream({ ...fields, messages: thinkingQuestion })
      .finalChatCompletion();
    const { message } = streamed.choices[0];
    const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: script.TOOL_RESULT };
    const { data, response } = await openai.chat.completions
      .create({ ...fields, messages: [...thinkingQuestion, message, result] }).withResponse();
    assert.equal(data.choices[0].message.content, ANSWER_WITH_RESULT);
    assert.equal(response.headers.get('x-tollgate-dropped'), 'reasoning_effort');
  });
}

// Responses

function hasResponsesUsage(usage) {
  assert.deepEqual([usage.input_tokens, usage.output_tokens], [script.INPUT, script.OUTPUT]);
  assert.equal(usage.input_tokens_details.cached_tokens, script.CACHED);
}

check('responses', { [RESPONSES]: 3 }, async () => {
  const fields = { model, input: script.QUESTION };
  const plain = await openai.responses.create(fields);
  assert.equal(plain.output_text, ANSWER);
  hasResponsesUsage(plain.usage);
  const events = await collect(await openai.responses.create({ ...fields, stream: true }));
  const words = events.filter(({ type }) => type === 'response.output_text.delta').map(({ delta }) => delta);
  assert.deepEqual(words, script.ANSWER);
  assert.equal(events.at(-1).type, 'response.completed');
  const deltas = [];
  const stream = openai.responses.stream(fields).on('response.output_text.delta', ({ delta }) => deltas.push(delta));
  const final = await stream.finalResponse();
  assert.deepEqual(deltas, script.ANSWER);
  assert.equal(final.output[0].content[0].text, ANSWER);
  hasResponsesUsage(final.usage);
});

check('responses with a tool', { [RESPONSES]: 4 }, async () => {
  const fields = { model, store: false, tools: [zodResponsesFunction({ name: script.TOOL, parameters: PriceOf })] };
  const plain = await openai.responses.parse({ ...fields, input: question });
  const streamed = await openai.responses.stream({ ...fields, input: question }).finalResponse();
  for (const { output } of [plain, streamed]) {
    const [{ parsed_arguments, ...call }] = output;
    assert.deepEqual([call.type, JSON.parse(call.arguments)], ['function_call', script.TOOL_ARGUMENTS]);
    const result = { type: 'function_call_output', call_id: call.call_id, output: script.TOOL_RESULT };
    const final = await openai.responses.create({ ...fields, input: [...question, call, result] });
    assert.equal(final.output_text, ANSWER_WITH_RESULT);
  }
});

check('responses in a schema', { [RESPONSES]: 2 }, async () => {
  const fields = { model, input: script.QUESTION, text: { format: zodTextFormat(Price, 'price') } };
  assert.deepEqual((await openai.responses.parse(fields)).output_parsed, script.PRICE);
  assert.deepEqual((await openai.responses.stream(fields).finalResponse()).output_parsed, script.PRICE);
});

check('responses with thoughts', { [RESPONSES]: 4 }, async () => {
  const fields = {
    model, store: false, include: ['reasoning.encrypted_content'], reasoning: { effort: 'low', summary: 'auto' },
    tools: [{ type: 'function', strict: false, ...FUNCTION }],
  };
  const plain = await openai.responses.create({ ...fields, input: thinkingQuestion });
  const deltas = [];
  const stream = openai.responses.stream({ ...fields, input: thinkingQuestion })
    .on('response.reasoning_summary_text.delta', ({ delta }) => deltas.push(delta));
  const streamed = await stream.finalResponse();
  assert.deepEqual(deltas, script.THOUGHT);
  for (const { output } of [plain, streamed]) {
    const call = output.at(-1);
    const summaries = output.slice(0, -1).flatMap(({ summary }) => summary);
    assert.deepEqual([call.type, summaries.map(({ text }) => text)], ['function_call', [THOUGHT]]);
    const items = output.map(({ parsed_arguments, ...item }) => item);
    const result = { type: 'function_call_output', call_id: call.call_id, output: script.TOOL_RESULT };
    const final = await openai.responses.create({ ...fields, input: [...thinkingQuestion, ...items, result] });
    assert.equal(final.output_text, ANSWER_WITH_RESULT);
  }
});

// Messages

function hasMessagesUsage(usage) {
  const { input_tokens, cache_read_input_tokens, output_tokens } = usage;
  assert.deepEqual([input_tokens, cache_read_input_tokens, output_tokens],
    [script.INPUT - script.CACHED, script.CACHED, script.OUTPUT]);
}

check('messages', { [MESSAGES]: 3 }, async () => {
  const fields = { model, max_tokens: 64, messages: question };
  const plain = await anthropic.messages.create(fields);
  assert.deepEqual([plain.content[0].text, plain.stop_reason], [ANSWER, 'end_turn']);
  hasMessagesUsage(plain.usage);
  const events = await collect(await anthropic.messages.create({ ...fields, stream: true }));
  const words = events.filter(({ type }) => type === 'content_block_delta').map(({ delta }) => delta.text);
  assert.deepEqual(words, script.ANSWER);
  assert.equal(events.at(-1).type, 'message_stop');
  const deltas = [];
  const final = await anthropic.messages.stream(fields).on('text', (delta) => deltas.push(delta)).finalMessage();
  assert.deepEqual(deltas, script.ANSWER);
  assert.equal(final.content[0].text, ANSWER);
  hasMessagesUsage(final.usage);
});

check('messages with tools that the SDK runs', { [MESSAGES]: 4 }, async () => {
  const bridges = [];
  const run = ({ bridge }) => {
    bridges.push(bridge);
    return script.TOOL_RESULT;
  };
  const tool = betaZodTool({ name: script.TOOL, description: 'The price of a bridge', inputSchema: PriceOf, run });
  const fields = { model, max_tokens: 64, messages: question, tools: [tool] };
  const plain = await anthropic.beta.messages.toolRunner(fields).runUntilDone();
  assert.equal(plain.content[0].text, ANSWER_WITH_RESULT);
  const streamed = await anthropic.beta.messages.toolRunner({ ...fields, stream: true }).runUntilDone();
  assert.equal(streamed.content[0].text, ANSWER_WITH_RESULT);
  assert.deepEqual(bridges, [script.TOOL_ARGUMENTS.bridge, script.TOOL_ARGUMENTS.bridge]);
});

check('messages in a schema', { [MESSAGES]: 2 }, async () => {
  const output_config = { format: zodOutputFormat(Price) };
  const fields = { model, max_tokens: 64, messages: question, output_config };
  assert.deepEqual((await anthropic.messages.parse(fields)).parsed_output, script.PRICE);
  assert.deepEqual((await anthropic.messages.stream(fields).finalMessage()).parsed_output, script.PRICE);
});

check('messages with thoughts', { [MESSAGES]: 4 }, async () => {
  const fields = { model, max_tokens: 4096, tools: [TOOL], thinking: { type: 'enabled', budget_tokens: 1024 } };
  const plain = await anthropic.messages.create({ ...fields, messages: thinkingQuestion });
  const deltas = [];
  const stream = anthropic.messages.stream({ ...fields, messages: thinkingQuestion })
    .on('thinking', (delta) => deltas.push(delta));
  const streamed = await stream.finalMessage();
  assert.deepEqual(deltas, script.THOUGHT);
  for (const { content } of [plain, streamed]) {
    const call = content.at(-1);
    const thoughts = content.slice(0, -1);
    assert.equal(thoughts.map(({ thinking }) => thinking).join(''), THOUGHT);
    assert.deepEqual([call.type, call.input], ['tool_use', script.TOOL_ARGUMENTS]);
    const result = { type: 'tool_result', tool_use_id: call.id, content: script.TOOL_RESULT };
    const told = [...thinkingQuestion, { role: 'assistant', content }, { role: 'user', content: [result] }];
    const final = await anthropic.messages.create({ ...fields, messages: told });
    assert.equal(final.content.at(-1).text, ANSWER_WITH_RESULT);
  }
});

// Errors

const ask = {
  [CHAT]: (text, more) => openai.chat.completions.create({ model, messages: asked(text), ...more }),
  [RESPONSES]: (text, more) => openai.responses.create({ model, input: text, ...more }),
  [MESSAGES]: (text, more) => anthropic.messages.create({ model, max_tokens: 64, messages: asked(text), ...more }),
};

for (const route of [CHAT, RESPONSES, MESSAGES]) {
  const sdk = route === MESSAGES ? Anthropic : OpenAI;
  const code = (error) => (sdk === Anthropic ? error.error.error.code : error.code);

  check(`errors of ${route}`, {}, async () => {
    const refused = await failure(sdk.BadRequestError, ask[route](script.BAD_REQUEST));
    assert.ok(refused.message.includes(script.ERROR_MESSAGE), refused.message);
    const limited = await failure(sdk.RateLimitError, ask[route](script.RATE_LIMITED, { stream: true }));
    assert.equal(limited.headers.get('retry-after'), provider === 'bedrock' ? null : script.RETRY_AFTER);
    const overloaded = await failure(sdk.InternalServerError, ask[route](script.OVERLOADED));
    assert.equal(overloaded.status, sdk === Anthropic ? 529 : 503);
    const key = await failure(sdk.InternalServerError, ask[route](script.KEY_REFUSED));
    assert.deepEqual([key.status, code(key)], [502, 'provider_credential_refused']);
  }, { errors: route });

  check(`a broken stream of ${route}`, {}, async () => {
    const seen = [];
    const read = async () => {
      for await (const event of await ask[route](script.BROKEN_OFF, { stream: true })) seen.push(event);
    };
    // The connection's end is an error of the runtime's.
    await failure(Error, read());
    assert.ok(seen.length > 0);
    const marks = ['response.completed', 'message_stop'];
    assert.ok(!seen.some((event) => marks.includes(event.type) || event.choices?.[0]?.finish_reason));
  }, { broken: route });
}

for (const { name, answers, run, others } of checks) {
  let error = null;
  await run().catch((caught) => {
    error = caught.stack;
  });
  console.log(JSON.stringify({ name, answers, ...others, error }));
}
