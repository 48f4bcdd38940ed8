/** What the simulator needs of a gateway, whichever of the two it is. */
import type { Fault, Gateway, Operation } from './contract.ts';
import type { World } from './world.ts';

export interface GatewayRequest {
  method: string;
  /** With the query, without the world; as the client has signed it. */
  path: string;
  headers: Readonly<Record<string, string | undefined>>;
  body: string;
}

/** A request whose signature is verified. */
export interface Call {
  operation: Operation;
  /** The number of the refund, where it names one. */
  outRefundNo: string | null;
  /** The gateway's and our number of the order, where it names them. */
  order: { outTradeNo?: string | undefined; tradeNo?: string | undefined };
  /** Fen that it says were paid; null where it doesn't say it. */
  total: number | null;
  /** Does it, and says what to answer. */
  execute(world: World, outcome: Outcome): Content;
}

/** What becomes of a refund that is accepted; null where the world's options say it. */
export type Outcome = Extract<Fault, { outcome: unknown }> | null;

/** An answer before it is signed. */
export interface Content {
  status: number;
  value: Record<string, unknown> | null;
  /** Alipay: in a node called error_response, without signature. */
  unsigned?: boolean;
}

export interface ErrorOptions {
  unsigned?: boolean | undefined;
  /** A text beside the code. */
  detail?: string | undefined;
}

export type Spoil = 'none' | 'stale' | 'altered' | 'unknown_serial';

export interface Reply {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface Driver {
  gateway: Gateway;
  /** Which operation a request is for, before anything is verified; null: there is none. */
  operationOf(request: GatewayRequest): Operation | null;
  /** Verifies a request; throws Refusal. */
  read(request: GatewayRequest, world: World): Call;
  /** An answer of this code. */
  error(status: number, code: string, options?: ErrorOptions): Content;
  /** Signs an answer. */
  seal(content: Content, request: GatewayRequest, world: World, spoil: Spoil | null): Reply;
}

/** An answer that is no success. `rejected`: the request did not even verify. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly rejected: boolean;
  readonly detail: string | undefined;

  constructor(
    status: number,
    code: string,
    { rejected = false, detail }: { rejected?: boolean; detail?: string | undefined } = {},
  ) {
    super(`${status} ${code}`);
    this.status = status;
    this.code = code;
    this.rejected = rejected;
    this.detail = detail;
  }
}
