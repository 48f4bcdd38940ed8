/**
 * Holds answers against the document that the Worker itself serves, with a validator that knows the
 * whole of JSON Schema 2020-12. What no operation answers, 40400 and 40500, is held against the
 * responses that the document has for it.
 */
import { createExecutionContext } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import Ajv from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { z } from 'zod';
import worker from '../src/index';

const Contents = z.record(z.string(), z.looseObject({ example: z.unknown().optional() }));
const Answer = z.object({
  headers: z.record(z.string(), z.object({ required: z.boolean(), example: z.string() })),
  content: Contents,
});
const Operation = z.object({
  operationId: z.string(),
  security: z.array(z.record(z.string(), z.array(z.string()))),
  parameters: z.array(
    z.object({
      name: z.string(),
      in: z.literal(['path', 'query', 'header']),
      required: z.boolean().optional(),
      description: z.string(),
      example: z.unknown().optional(),
      explode: z.boolean().optional(),
    }),
  ),
  requestBody: z.object({ required: z.boolean(), content: Contents }).optional(),
  responses: z.record(z.string(), Answer),
});
const Document = z.object({
  openapi: z.string(),
  paths: z.record(z.string(), z.record(z.string(), Operation)),
  components: z.object({
    schemas: z.record(z.string(), z.record(z.string(), z.unknown())),
    responses: z.record(z.string(), Answer),
  }),
});

const asked = new Request('https://api.test/openapi.json');
const answered = await worker.fetch(asked, env, createExecutionContext());
const served = z.looseObject({}).parse(await answered.json());

/** As GET /openapi.json answers it, as far as tests look into it. */
export const document = Document.parse(served);

const ajv = new Ajv({ strict: true, allowUnionTypes: true, allErrors: true });
addFormats(ajv);
// The schemas lie within the document, so what is around them has to be known too.
ajv.addVocabulary(Object.keys(served));
ajv.addSchema(served, 'openapi', false, false);

/** Throws unless the value is valid against the schema at this place of the document. */
export function validate(place: string[], value: unknown): void {
  const pointer = place.map((key) => key.replaceAll('~', '~0').replaceAll('/', '~1'));
  const check = ajv.getSchema(`openapi#/${pointer.map(encodeURIComponent).join('/')}`);
  if (!check) throw new Error(`the document has no ${place.join(' ')}`);
  if (!check(value)) {
    const problems = ajv.errorsText(check.errors, { dataVar: '' });
    throw new Error(`not as in ${place.join(' ')}: ${problems}\n${JSON.stringify(value)}`);
  }
}

// A path written out goes before one with a parameter in its place.
const templates = Object.keys(document.paths)
  .sort((a, b) => Number(a.includes('{')) - Number(b.includes('{')))
  .map((template) => ({
    template,
    pattern: new RegExp(`^${template.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`),
  }));

/** What an answer has only where the document says so. */
const TELLING_HEADERS = [
  'Allow',
  'Age',
  'Cache-Status',
  'Content-Disposition',
  'Idempotent-Replayed',
  'Retry-After',
  'WWW-Authenticate',
];

/** Pages and redirects of the console: no API, and so not in the document. */
export const OUTSIDE = /^\/(?:console(?:\/(?!session$).*)?)?$/;

/**
 * Throws unless the document has this answer to this request: status, type, headers and, where it is
 * JSON, body. The response stays unread. An answer to HEAD, and a permission that OPTIONS gets, are of
 * no operation and pass, and a page needs its policy only.
 */
export async function expectConforming(request: Request, response: Response): Promise<void> {
  const { method } = request;
  const { status, headers } = response;
  if (method === 'HEAD' || (method === 'OPTIONS' && response.ok)) return;
  const { pathname } = new URL(request.url);
  if (headers.get('Content-Type')?.startsWith('text/html')) {
    if (headers.get('Content-Security-Policy')?.includes("trusted-types 'none'")) return;
    throw new Error(`${method} ${pathname}: a page without its policy`);
  }
  if (OUTSIDE.test(pathname)) return;
  const template = templates.find(({ pattern }) => pattern.test(pathname))?.template;
  const operation = template && document.paths[template]?.[method.toLowerCase()];
  const place = operation
    ? ['paths', template, method.toLowerCase(), 'responses', String(status)]
    : ['components', 'responses', template ? 'MethodNotAllowed' : 'NotFound'];
  const answer = operation
    ? operation.responses[status]
    : document.components.responses[template ? 'MethodNotAllowed' : 'NotFound'];
  const mediaType = headers.get('Content-Type')?.split(';')[0] ?? '';
  const isEmpty = status === 204 && mediaType === '';
  if (!answer || !(isEmpty || mediaType in answer.content)) {
    throw new Error(`${method} ${pathname}: the document has no ${status} ${mediaType}`);
  }
  for (const [name, { required }] of Object.entries(answer.headers)) {
    const value = headers.get(name);
    if (value !== null) validate([...place, 'headers', name, 'schema'], value);
    else if (required) throw new Error(`${method} ${pathname}: ${status} without ${name}`);
  }
  for (const name of TELLING_HEADERS.filter((name) => headers.has(name))) {
    if (!(name in answer.headers)) {
      throw new Error(`${method} ${pathname}: the document has no ${name} of ${status}`);
    }
  }
  if (mediaType === 'application/json') {
    validate([...place, 'content', mediaType, 'schema'], await response.clone().json());
  }
}
