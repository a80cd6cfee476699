// Field reports P2 to P5.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { ChatTemplate } from '../../sdk/src/chat-template.js';
import { join, root } from './fixtures.js';

const render = (source: string, ...messages: any[]) => new ChatTemplate(source, {}).render(messages);
const user = (content: string) => ({ role: 'user', content });

t.test('P2: generation tags vanish, blocks are trimmed', async (t) => {
  const tags =
    "{% for m in messages %}\n    {% if m.role == 'assistant' %}\n        {%- generation -%}\n        {{ m.content }}\n        {%- endgeneration -%}\n    {% else %}\n        [{{ m.role }}]{{ m.content }}\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}>{% endif %}";
  t.equal(
    render(tags, user('hi'), { role: 'assistant', content: ' yes \n' }, user('more')),
    '        [user]hi\n yes \n        [user]more\n>',
  );
  const blocks =
    "{% for m in messages %}\n<{{ m.role }}>{{ m.content }}\n{% endfor %}\n{% if add_generation_prompt %}\n    {% set who = 'assistant' %}\n<{{ who }}>\n{% endif %}\n";
  t.equal(render(blocks, user('hi')), '<user>hi\n<assistant>\n');
});

t.test('P3: arguments of tool calls are objects', async (t) => {
  const source =
    "{% for m in messages %}\n    {%- if m.role == 'tool' %}<t>{{ m.content }}</t>{% elif m.tool_calls %}{{ m.content or '' }}<c>{% for c in m.tool_calls %}{{ c.function.name }}:{{ c.function.arguments | tojson }};{% endfor %}</c>{% else %}{{ m.content }}{% endif %}\n{% endfor %}";
  const call = (args: unknown) => ({ role: 'assistant', content: null, tool_calls: [{ function: { name: 'f', arguments: args } }] });
  const wanted = 'q<c>f:{"a": 1, "u": "é/<"};</c><t>7</t>';
  for (const args of ['{"a":1,"u":"é/<"}', { a: 1, u: 'é/<' }])
    t.equal(render(source, user('q'), call(args), { role: 'tool', content: '7' }), wanted);
  t.equal(render(source, call('')), '<c>f:{};</c>', 'no text is no argument');
  t.equal(render(source, call('{oops')), '<c>f:"{oops";</c>', 'what is no JSON stays a text');
  t.equal(render(source, call('[1]')), '<c>f:"[1]";</c>');
  const joined = "{% for m in messages %}{% for c in m.tool_calls %}{{ 'json ' + c.function.arguments }}{% endfor %}{% endfor %}";
  t.equal(render(joined, call('{"a":1}')), 'json {"a":1}', 'a template that joins texts gets the text');
});

t.test('tools reach the template', async (t) => {
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const template = new ChatTemplate('{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}', {});
  t.equal(template.render([user('q')], { tools }), '[{"type": "function", "function": {"name": "f"}}]q');
  t.equal(template.render([user('q')]), 'q');
});

t.test('P4: JSON as Python writes it', async (t) => {
  const tool = {
    type: 'function',
    function: { name: 'f', description: "x < y & 'z' / é \u2028", parameters: { type: 'object', properties: {} } },
  };
  t.equal(
    render('{{ messages[0].tool | tojson }}', { role: 'x', content: null, tool }),
    `{"type": "function", "function": {"name": "f", "description": "x < y & 'z' / é \u2028", "parameters": {"type": "object", "properties": {}}}}`,
  );
  t.equal(
    render("{{ messages[0].tool | tojson(ensure_ascii=True, sort_keys=true, separators=(',',':')) }}", { role: 'x', content: null, tool: { b: 1, a: 'é\u2028' } }),
    '{"a":"\\u00e9\\u2028","b":1}',
  );
  // @huggingface/jinja 0.5.11 writes the literal 1.0 as 1 where Python writes 1.0; values that come from JavaScript have no such form.
  t.equal(render('{{ [1.5, 0.1, none] | tojson }}', user('')), '[1.5, 0.1, null]');
});

t.test('P5: what the template raises reaches the caller', async (t) => {
  const source = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}ok";
  t.throws(() => render(source, { role: 'system', content: 'x' }), {
    code: 'ERR_CHAT_TEMPLATE',
    message: /System role not supported/,
  });
  t.equal(render(source, user('x')), 'ok', 'the next good request works');
});

t.test('a broken template fails when it is used', async (t) => {
  const template = new ChatTemplate('{% if %}', {});
  t.throws(() => template.render([user('x')]), { code: 'ERR_CHAT_TEMPLATE', message: /cannot be parsed/ });
  t.throws(() => new ChatTemplate(null, {}).render([user('x')]), {
    code: 'ERR_CHAT_TEMPLATE',
    message: /no chat template/,
  });
});

// Templates in the form that the families publish them, and what transformers 5.24 made of them.
t.test('templates of the families', async (t) => {
  const { templates, cases } = JSON.parse(readFileSync(join(root, 'chat-templates.json'), 'utf8'));
  for (const { template, chat, messages, tools, generation, text, error } of cases) {
    const name = `${template}: ${chat}${generation ? ', generation' : ''}`;
    const made = new ChatTemplate(templates[template], { bos_token: '<bos>', eos_token: '<eos>' });
    const options = { addGenerationPrompt: generation, ...(tools === null ? {} : { tools }) };
    if (error === null) t.equal(made.render(messages, options), text, name);
    else t.throws(() => made.render(messages, options), { code: 'ERR_CHAT_TEMPLATE', message: new RegExp(error.slice(0, 30)) }, name);
  }
});
