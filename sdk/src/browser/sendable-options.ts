/** Options as they can be sent to a worker: schema objects, which are functions or have some, as the JSON that they mean. */
import { readTools, toolsForTemplate } from '../tools/tools.js';
import { readSchemaSource, type SchemaSource } from '../structured/schema-source.js';

/** TypeError and ERR_UNSUPPORTED_SCHEMA as the worker would throw them. */
export function sendableOptions<T extends { schema?: SchemaSource; tools?: object[] }>(options: T): T {
  return {
    ...options,
    ...(options.schema === undefined ? {} : { schema: readSchemaSource(options.schema) as SchemaSource }),
    ...(options.tools === undefined ? {} : { tools: toolsForTemplate(readTools(options.tools)) }),
  };
}
