/**
 * What Workers KV and Queues may do to the detail cache at their worst, which miniflare never does.
 * KV here has locations, serves misses and old values from a location's own cache, shows a write
 * elsewhere only after a while, and takes one write per second and key. Both tell the time by
 * Date.now() and setTimeout, so a test that fakes these moves their clock.
 */
import { createExecutionContext, createMessageBatch, getQueueResult } from 'cloudflare:test';
import type { Bindings } from '../src/env';

/** How long a write takes to be seen in another location. With the 30 s of a location's cache it makes KV's minute. */
const PROPAGATION_MS = 30_000;

interface Stored {
  value: string | null;
  metadata: unknown;
}

interface Version extends Stored {
  writtenAt: number;
  writtenIn: string;
  expiresAt: number;
}

const NOTHING: Stored = { value: null, metadata: null };

export class FakeKv {
  /** While set, every operation fails. */
  down = false;
  /** While set, every operation tells it and hangs for ever. */
  onHang: (() => void) | null = null;
  /** Operations so far, as `get`, `put`, `delete`. */
  operations: string[] = [];
  /** When `delete` was called. */
  deletes: number[] = [];
  private readonly versions = new Map<string, Version[]>();
  private readonly edges = new Map<string, Stored & { until: number }>();

  /** The namespace as a Worker in this location sees it. */
  at(location: string): KVNamespace {
    const read = async (key: string, { cacheTtl }: { cacheTtl: number }): Promise<Stored> => {
      await this.operate('get');
      if (cacheTtl < 30) throw new Error('KV GET failed: 400 Invalid cache_ttl');
      const edge = this.edges.get(`${location} ${key}`);
      if (edge && edge.until > Date.now()) return edge;
      const stored = this.visible(key, location);
      this.edges.set(`${location} ${key}`, { ...stored, until: Date.now() + cacheTtl * 1000 });
      return stored;
    };
    const namespace: Pick<KVNamespace, 'delete'> & {
      get(key: string, options: { cacheTtl: number }): Promise<string | null>;
      getWithMetadata(key: string, options: { cacheTtl: number }): Promise<Stored>;
      put(
        key: string,
        value: string,
        options: { expirationTtl: number; metadata?: unknown },
      ): Promise<void>;
    } = {
      get: async (key, options) => (await read(key, options)).value,
      getWithMetadata: read,
      put: async (key, value, { expirationTtl, metadata = null }) => {
        await this.operate('put');
        this.write(key, { value, metadata }, location, Date.now() + expirationTtl * 1000);
      },
      delete: async (key) => {
        this.deletes.push(Date.now());
        await this.operate('delete');
        this.write(key, NOTHING, location, Number.POSITIVE_INFINITY);
      },
    };
    // Only the overloads and methods that the detail cache uses exist here; any other fails as undefined.
    return namespace as KVNamespace;
  }

  private async operate(operation: string): Promise<void> {
    this.operations.push(operation);
    if (this.onHang) {
      this.onHang();
      await new Promise(() => {});
    }
    if (this.down) throw new Error('KV failed: 500 Internal Server Error');
  }

  private write(key: string, stored: Stored, location: string, expiresAt: number): void {
    const versions = this.versions.get(key) ?? [];
    const last = versions.at(-1);
    if (last && Date.now() - last.writtenAt < 1000)
      throw new Error('KV failed: 429 Too Many Requests');
    this.versions.set(key, [
      ...versions,
      { ...stored, writtenAt: Date.now(), writtenIn: location, expiresAt },
    ]);
    this.edges.delete(`${location} ${key}`);
  }

  private visible(key: string, location: string): Stored {
    const newest = (this.versions.get(key) ?? []).findLast(
      ({ writtenIn, writtenAt }) =>
        writtenIn === location || Date.now() - writtenAt >= PROPAGATION_MS,
    );
    return newest && newest.expiresAt > Date.now() ? newest : NOTHING;
  }
}

/** What Cloudflare allows, with which older limits agree. */
const MAX_DELAY_SECONDS = 43_200;

export class FakeQueue {
  /** While set, sending fails. */
  down = false;
  private readonly name: string;
  /** What was sent and not yet delivered. */
  messages: { body: unknown; dueAt: number; attempts: number }[] = [];

  constructor(name: string) {
    this.name = name;
  }

  binding(): Queue {
    const queue: Pick<Queue, 'send' | 'sendBatch'> = {
      send: async (body, options) => queue.sendBatch([{ body, ...options }]),
      sendBatch: async (batch) => {
        if (this.down) throw new Error('Queue sendBatch failed: Internal Server Error');
        for (const { body, delaySeconds = 0 } of batch) {
          if (delaySeconds > MAX_DELAY_SECONDS) throw new Error('Queue send failed: Bad Request');
          this.messages.push({ body, dueAt: Date.now() + delaySeconds * 1000, attempts: 1 });
        }
        return { metadata: { metrics: { backlogCount: 0, backlogBytes: 0 } } };
      },
    };
    return queue as Queue;
  }

  /** Delivers what is due to the consumer; what it wants to retry is sent again with the delay it asks for. */
  async deliver(
    consumer: (batch: MessageBatch, env: Bindings, ctx: ExecutionContext) => void | Promise<void>,
    env: Bindings,
  ): Promise<void> {
    const due = this.messages.filter((message) => message.dueAt <= Date.now());
    if (due.length === 0) return;
    this.messages = this.messages.filter((message) => message.dueAt > Date.now());
    const batch = createMessageBatch(
      this.name,
      due.map(({ body, dueAt, attempts }, index) => ({
        id: String(index),
        timestamp: dueAt,
        attempts,
        body,
      })),
    );
    // getQueueResult() says which messages are to be retried, but not with which delay.
    const delays = new Map<string, number>();
    for (const message of batch.messages) {
      const retry = message.retry.bind(message);
      message.retry = (options) => {
        delays.set(message.id, options?.delaySeconds ?? 0);
        retry(options);
      };
    }
    const ctx = createExecutionContext();
    await consumer(batch, env, ctx);
    const result = await getQueueResult(batch, ctx);
    for (const { msgId } of result.retryMessages) {
      const message = due[Number(msgId)];
      if (!message) throw new Error(`no message ${msgId}`);
      this.messages.push({
        body: message.body,
        dueAt: Date.now() + (delays.get(msgId) ?? 0) * 1000,
        attempts: message.attempts + 1,
      });
    }
  }
}
