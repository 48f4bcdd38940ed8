/**
 * Statements whose text Drizzle builds once per isolate: to build one takes longer than to validate a
 * request and to write its answer. From request to request only the values differ.
 */
import { fillPlaceholders, Param, type Placeholder, SQL, StringChunk, sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';

type Value = string | number | bigint | null | undefined;

/** Puts into a statement the place of a value that each request gives. */
export type Bind<Request> = (valueIn: (request: Request) => Value) => Placeholder;

type Build<Request> = (bind: Bind<Request>, example: Request) => SQL;

/**
 * Makes of `build` a function from a request to its statement. `build` runs once for each shape, on
 * the first request that has it, and must take from that request nothing but its shape: every value
 * goes through `bind`. Texts are kept, so there must be few shapes.
 */
export function prepared<Request>(
  build: Build<Request>,
  shapeOf: (request: Request) => string = () => '',
): (request: Request) => SQL {
  const statements = new Map<string, (request: Request) => SQL>();
  return (request) => {
    const shape = shapeOf(request);
    const statement = statements.get(shape) ?? compile(build, request);
    statements.set(shape, statement);
    return statement(request);
  };
}

function compile<Request>(build: Build<Request>, example: Request): (request: Request) => SQL {
  const values: ((request: Request) => Value)[] = [];
  const bind: Bind<Request> = (valueIn) => sql.placeholder(String(values.push(valueIn) - 1));
  const { sql: text, params } = new PgDialect().sqlToQuery(build(bind, example));
  const pieces = text.split(/\$\d+/).map((piece) => new StringChunk(piece));

  return (request) => {
    const named = Object.fromEntries(values.map((valueIn, name) => [name, valueIn(request)]));
    const filled = fillPlaceholders(params, named);
    return new SQL(
      pieces.flatMap((piece, i) => (i < filled.length ? [piece, new Param(filled[i])] : [piece])),
    );
  };
}

/** A PostgreSQL array as text. */
export function arrayLiteral(values: (string | number)[]): string {
  const items = values.map(
    (value) => `"${String(value).replace(/["\\]/g, (character) => `\\${character}`)}"`,
  );
  return `{${items.join()}}`;
}
