// Field reports P2, P4 and P5.
import t from 'tap';
import { ChatTemplate } from '../../sdk/src/chat-template.js';

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

t.test('P4: JSON as Python writes it', async (t) => {
  const tool = {
    type: 'function',
    function: { name: 'f', description: "x < y & 'z' / é \u2028", parameters: { type: 'object', properties: {} } },
  };
  t.equal(
    render('{{ messages[0].tool | tojson }}', { role: 'x', content: null, tool }),
    `{"type": "function", "function": {"name": "f", "description": "x < y & 'z' / é \u2028", "parameters": {"type": "object", "properties": {}}}}`,
  );
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
