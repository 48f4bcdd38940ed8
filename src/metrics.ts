/**
 * One data point a request in the Workers Analytics Engine dataset payment_management, and one for each
 * call of a gateway and each callback in payment_management_gateways. docs/operations.md has SQL for both.
 * No parameter, actor, token, number or body is in them.
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

/** blob1, blob2, … of a call of a gateway or of a callback; new ones go to the end. */
export const GATEWAY_BLOBS = ['gateway', 'operation', 'outcome', 'code'] as const;

/** double1, double2, … of the same. */
export const GATEWAY_DOUBLES = ['http_status', 'duration_ms', 'attempt'] as const;

type GatewayPoint = Record<(typeof GATEWAY_BLOBS)[number], string | null> &
  Record<(typeof GATEWAY_DOUBLES)[number], number | null>;

/** The point of a call of a gateway, or of a callback, whose operation is `callback`. */
export function gatewayPoint(point: GatewayPoint) {
  return {
    indexes: [`${point.gateway} ${point.operation}`],
    blobs: GATEWAY_BLOBS.map((column) => point[column] ?? ''),
    doubles: GATEWAY_DOUBLES.map((column) => point[column] ?? 0),
  };
}
