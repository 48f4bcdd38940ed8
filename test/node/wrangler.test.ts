/** wrangler.toml: what an environment does not inherit is written three times, and must stay the same. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { unstable_readConfig } from 'wrangler';
import { z } from 'zod';

const FILE = join(import.meta.dirname, '../../wrangler.toml');

const Named = z.object({ binding: z.string() });

/** What wrangler makes of wrangler.toml for one environment. */
const Configuration = z.object({
  name: z.string(),
  kv_namespaces: z.array(Named),
  analytics_engine_datasets: z.array(Named.extend({ dataset: z.string() })),
  ratelimits: z.array(
    z.object({ name: z.string(), namespace_id: z.string(), simple: z.unknown() }),
  ),
  queues: z.object({
    producers: z.array(Named.extend({ queue: z.string() })),
    consumers: z.array(
      z.looseObject({ queue: z.string(), dead_letter_queue: z.string().optional() }),
    ),
  }),
  vars: z.record(z.string(), z.string()),
  secrets: z.object({ required: z.array(z.string()) }),
  triggers: z.unknown(),
  assets: z.object({
    directory: z.string(),
    binding: z.string(),
    run_worker_first: z.array(z.string()),
  }),
});

const configuration = (env: string) =>
  Configuration.parse(unstable_readConfig({ config: FILE, env }));

/** All but what each environment has for itself. */
const shared = (config: z.infer<typeof Configuration>) => ({
  ...config,
  name: undefined,
  analytics_engine_datasets: config.analytics_engine_datasets.map(({ binding }) => binding),
  ratelimits: config.ratelimits.map((limit) => ({ ...limit, namespace_id: undefined })),
  queues: {
    producers: config.queues.producers.map(({ binding }) => binding),
    consumers: config.queues.consumers.map(({ queue: _, dead_letter_queue, ...consumer }) => ({
      ...consumer,
      hasDeadLetters: dead_letter_queue !== undefined,
    })),
  },
  // An environment may have more of these.
  vars: expect.objectContaining(
    Object.fromEntries(Object.keys(config.vars).map((name) => [name, expect.any(String)])),
  ),
  secrets: { required: expect.arrayContaining(config.secrets.required) },
});

test('binds in each environment what the tests have, to resources of its own', () => {
  const tested = configuration('');
  const deployed = ['staging', 'production'].map(configuration);
  for (const config of deployed) {
    expect({ ...shared(config), vars: config.vars, secrets: config.secrets }).toEqual(
      shared(tested),
    );
  }
  for (const { queues } of [tested, ...deployed]) {
    const dead = queues.consumers.flatMap(({ dead_letter_queue }) => dead_letter_queue ?? []);
    // Whatever is sent is consumed, and so are the messages that could not be.
    expect(queues.consumers.map(({ queue }) => queue)).toEqual([
      ...queues.producers.map(({ queue }) => queue),
      ...dead,
    ]);
  }
  const own = [tested, ...deployed].flatMap((config) => [
    config.name,
    ...config.queues.consumers.map(({ queue }) => queue),
    ...config.analytics_engine_datasets.map(({ dataset }) => dataset),
    ...config.ratelimits.map(({ namespace_id }) => namespace_id),
  ]);
  expect(own).toHaveLength(21);
  expect(new Set(own).size).toBe(own.length);
});

test('names the queues so that each batch gets to its consumer', () => {
  for (const env of ['', 'staging', 'production']) {
    const { consumers } = configuration(env).queues;
    // src/index.ts knows a batch by the beginning of its queue's name.
    expect(consumers.map(({ queue }) => queue.replace(/-(staging|production)$/, ''))).toEqual([
      'payment-detail-purges',
      'payment-refunds',
      'payment-refunds-dead',
    ]);
  }
});

test('serves the files of the console, and leaves its page to the Worker', () => {
  for (const env of ['', 'staging', 'production']) {
    const { assets } = configuration(env);
    expect(assets).toMatchObject({ directory: 'dist/site', binding: 'ASSETS' });
    expect(assets.run_worker_first).toEqual(['/console', '/console/', '/console/index*']);
  }
});
