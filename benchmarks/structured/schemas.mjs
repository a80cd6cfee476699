// What is asked for, and the form of the answer.
const text = { type: 'string' };
const short = { type: 'string', maxLength: 40 };
const object = (properties, optional = []) => ({ type: 'object', properties, required: Object.keys(properties).filter((name) => !optional.includes(name)), additionalProperties: false });
const list = (items, minItems, maxItems) => ({ type: 'array', items, ...(minItems === undefined ? {} : { minItems }), ...(maxItems === undefined ? {} : { maxItems }) });

export const answerSchemas = [
  { name: 'person', prompt: 'Describe a person as JSON with name, age and city.', schema: object({ name: text, age: { type: 'integer', minimum: 0, maximum: 120 }, city: text }) },
  { name: 'sentiment', prompt: 'What is the sentiment of: "I love this phone"? Answer as JSON.', schema: object({ sentiment: { enum: ['positive', 'negative', 'neutral'] }, confidence: { type: 'number', minimum: 0, maximum: 1 } }) },
  { name: 'yes or no', prompt: 'Is Paris in France?', schema: object({ answer: { type: 'boolean' }, reason: short }) },
  { name: 'keywords', prompt: 'Give keywords of a text about rivers.', schema: list(short, 1, 5) },
  { name: 'free string', prompt: 'Write one sentence about the sea.', schema: text },
  { name: 'any JSON', prompt: 'Give an example of JSON.', schema: {} },
  { name: 'free object', prompt: 'Describe a book as JSON.', schema: { type: 'object' } },
  { name: 'book', prompt: 'Describe a book.', schema: object({ title: text, author: text, year: { type: 'integer', minimum: 1400, maximum: 2030 }, genres: list({ enum: ['fiction', 'history', 'science', 'poetry'] }, 1, 3) }, ['genres']) },
  { name: 'event', prompt: 'Plan a meeting in May 2024.', schema: object({ title: short, date: { type: 'string', format: 'date' }, start: { type: 'string', format: 'time' }, attendees: list(object({ name: short, email: { type: 'string', format: 'email' } }), 1, 3) }) },
  { name: 'moment', prompt: 'When did the first man walk on the moon?', schema: { type: 'string', format: 'date-time' } },
  { name: 'weather', prompt: 'What is the weather in Berlin?', schema: object({ location: short, temperature: { type: 'number', minimum: -60, maximum: 60 }, unit: { enum: ['C', 'F'] }, wind: object({ speed: { type: 'number', minimum: 0 }, direction: { enum: ['N', 'E', 'S', 'W'] } }) }) },
  { name: 'tree', prompt: 'Give a small family tree.', schema: { $ref: '#/$defs/node', $defs: { node: object({ name: { type: 'string', maxLength: 20 }, children: list({ $ref: '#/$defs/node' }, 0, 3) }) } } },
  { name: 'linked list', prompt: 'Count to three.', schema: object({ value: { type: 'integer' }, next: { anyOf: [{ $ref: '#' }, { type: 'null' }] } }) },
  { name: 'shapes', prompt: 'Give some shapes.', schema: list({ anyOf: [object({ kind: { const: 'circle' }, radius: { type: 'number', exclusiveMinimum: 0 } }), object({ kind: { const: 'rectangle' }, width: { type: 'number', exclusiveMinimum: 0 }, height: { type: 'number', exclusiveMinimum: 0 } })] }, 1, 4) },
  { name: 'oneOf', prompt: 'Pay for a coffee.', schema: { oneOf: [object({ method: { const: 'card' }, number: { type: 'string', pattern: '^\\d{16}$' } }), object({ method: { const: 'cash' }, amount: { type: 'number', minimum: 0, multipleOf: 0.01 } })] } },
  { name: 'price', prompt: 'What does a bicycle cost?', schema: object({ amount: { type: 'number', minimum: 0, multipleOf: 0.01 }, currency: { type: 'string', pattern: '^[A-Z]{3}$' } }) },
  { name: 'product', prompt: 'Describe a product of a shop.', schema: object({ sku: { type: 'string', pattern: '^[A-Z]{2}-\\d{4}$' }, name: short, tags: list(short, 0, 4), stock: { type: 'integer', minimum: 0 }, discontinued: { type: 'boolean' } }) },
  { name: 'uuid', prompt: 'Make an identifier.', schema: object({ id: { type: 'string', format: 'uuid' } }) },
  { name: 'network', prompt: 'Describe a server.', schema: object({ host: { type: 'string', format: 'hostname' }, address: { type: 'string', format: 'ipv4' }, port: { type: 'integer', minimum: 1, maximum: 65535 }, url: { type: 'string', format: 'uri' } }) },
  { name: 'map', prompt: 'How many legs do animals have?', schema: { type: 'object', additionalProperties: { type: 'integer', minimum: 0 }, minProperties: 1 } },
  { name: 'open object', prompt: 'Describe a cat.', schema: { type: 'object', properties: { name: text }, required: ['name'], additionalProperties: text } },
  { name: 'tuple', prompt: 'Where is Rome?', schema: { type: 'array', prefixItems: [short, { type: 'number', minimum: -90, maximum: 90 }, { type: 'number', minimum: -180, maximum: 180 }], items: false } },
  { name: 'matrix', prompt: 'Give a matrix.', schema: list(list({ type: 'number' }, 2, 2), 2, 2) },
  { name: 'numbers', prompt: 'Give prime numbers.', schema: list({ type: 'integer' }) },
  { name: 'nullable', prompt: 'What is the middle name of Ada Lovelace?', schema: object({ first: text, middle: { type: ['string', 'null'] }, last: text }) },
  { name: 'optional', prompt: 'Describe a song.', schema: object({ title: text, artist: text, album: text, year: { type: 'integer' }, seconds: { type: 'number' } }, ['artist', 'album', 'year', 'seconds']) },
  { name: 'allOf', prompt: 'Describe a user account.', schema: { allOf: [{ type: 'object', properties: { id: { type: 'integer', minimum: 1 } }, required: ['id'] }, { properties: { name: short, active: { type: 'boolean' } }, required: ['name', 'active'] }] } },
  { name: 'enum of 200', prompt: 'Choose a number.', schema: { enum: Array.from({ length: 200 }, (_, i) => `choice number ${i}`) } },
  { name: 'chat messages', prompt: 'Write a short dialogue.', schema: list(object({ role: { enum: ['user', 'assistant'] }, content: text }), 2, 4) },
  { name: 'invoice', prompt: 'Write an invoice.', schema: object({ number: { type: 'string', pattern: '^INV-\\d{6}$' }, issued: { type: 'string', format: 'date' }, lines: list(object({ item: short, quantity: { type: 'integer', minimum: 1, maximum: 99 }, price: { type: 'number', minimum: 0 } }), 1, 3), paid: { type: 'boolean' } }) },
  { name: 'escapes', prompt: 'Write a line of a program in quotes.', schema: object({ language: { enum: ['C', 'Python', 'JavaScript'] }, code: text }) },
  { name: 'long bounded string', prompt: 'Tell a story.', schema: object({ story: { type: 'string', minLength: 20, maxLength: 400 } }) },
];
