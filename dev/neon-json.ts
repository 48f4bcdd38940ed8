/**
 * How Neon's proxy turns JSON into parameters, and PostgreSQL's text into JSON where the client did not
 * ask for raw text. After proxy/src/serverless/json.rs of github.com/neondatabase/neon.
 */

/** A parameter in PostgreSQL's text form; null is NULL. An object is sent as JSON, an array as an array. */
export function toParameter(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value)) return toArrayLiteral(value);
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function toArrayLiteral(values: unknown[]): string {
  const elements = values.map((value) => {
    if (value === null) return 'NULL';
    if (Array.isArray(value)) return toArrayLiteral(value);
    // JSON's quotes and backslashes are also those of an array literal.
    if (typeof value === 'object') return JSON.stringify(JSON.stringify(value));
    return JSON.stringify(value);
  });
  return `{${elements.join(',')}}`;
}

const BOOL = 16;
const INT2 = 21;
const INT4 = 23;
const JSON_TYPE = 114;
const FLOAT4 = 700;
const FLOAT8 = 701;
const JSONB = 3802;

/** The element types of the array types whose elements are not simply text, and of the common ones that are. */
const ELEMENT_TYPES = new Map([
  [1000, BOOL],
  [1005, INT2],
  [1007, INT4],
  [199, JSON_TYPE],
  [1021, FLOAT4],
  [1022, FLOAT8],
  [3807, JSONB],
  ...[1001, 1002, 1009, 1014, 1015, 1016, 1115, 1182, 1183, 1185, 1187, 1231, 2951].map(
    (array): [number, number] => [array, 0],
  ),
]);

/** The JSON text of a value of type `oid`: numbers and booleans as such, 64-bit ones as strings. */
export function toJson(value: string | null, oid: number): string {
  if (value === null) return 'null';
  const elementType = ELEMENT_TYPES.get(oid);
  if (elementType !== undefined) return arrayToJson(value, elementType);
  switch (oid) {
    case BOOL:
      return value === 't' ? 'true' : 'false';
    case INT2:
    case INT4:
    case JSON_TYPE:
    case JSONB:
      return value;
    case FLOAT4:
    case FLOAT8:
      // NaN and the infinities are no JSON numbers.
      return Number.isFinite(Number(value)) ? value : JSON.stringify(value);
    default:
      return JSON.stringify(value);
  }
}

/** https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO; bounds ([2:3]=…) are dropped. */
function arrayToJson(literal: string, elementType: number): string {
  let json = '';
  // A brace, a separator, a quoted element, or one without quotes.
  for (const [token, quoted] of literal
    .slice(literal.indexOf('{'))
    .matchAll(/[{},]|"((?:[^"\\]|\\.)*)"|[^{},"]+/gs)) {
    if (token === '{') json += '[';
    else if (token === '}') json += ']';
    else if (token === ',') json += ',';
    else if (quoted !== undefined) json += toJson(quoted.replace(/\\(.)/gs, '$1'), elementType);
    else json += token === 'NULL' ? 'null' : toJson(token, elementType);
  }
  return json;
}
