/** JSON that PostgreSQL makes, in the very form in which a client gets it. */
import { type SQL, type SQLWrapper, sql } from 'drizzle-orm';
import type * as z from 'zod';

/**
 * An object with the keys of the schema that describes it. Ids and amounts have to be given as text:
 * as JSON numbers they would pass through a float.
 */
export function json<T extends z.ZodObject>(fields: Record<keyof T['shape'], SQLWrapper>): SQL {
  const pairs = Object.entries<SQLWrapper>(fields).map(
    ([key, value]) => sql`${sql.raw(`'${key}'`)}, ${value}`,
  );
  return sql`json_build_object(${sql.join(pairs, sql`, `)})`;
}

/** An id or an amount as text. */
export function text(value: SQLWrapper): SQL {
  return sql`${value}::text`;
}
