/**
 * One data point a request in the Workers Analytics Engine dataset payment_management, whose SQL is
 * in docs/operations.md. No parameter, actor or token is in it.
 */

/** blob1, blob2, …: text, empty where there is none. A point that is stored keeps its columns, so new ones go to the end. */
export const BLOBS = ['route', 'method', 'cache', 'colo'] as const;

/** double1, double2, …: numbers, with new ones at the end as well. */
export const DOUBLES = [
  'status',
  'code',
  'duration_ms',
  'database_ms',
  'database_requests',
  'kv_ms',
  'rows',
] as const;

type Point = Record<(typeof BLOBS)[number], string | null> &
  Record<(typeof DOUBLES)[number], number>;

/**
 * The point of a request. Under load Cloudflare samples each index for itself, so with the route as
 * the index a few refunds are not lost among many reads.
 */
export function dataPoint(point: Point) {
  return {
    indexes: [point.route ?? ''],
    blobs: BLOBS.map((column) => point[column] ?? ''),
    doubles: DOUBLES.map((column) => point[column]),
  };
}
