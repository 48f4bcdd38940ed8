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
  analytics_engine_datasets: z.array(Named),
  ratelimits: z.array(
    z.object({ name: z.string(), namespace_id: z.string(), simple: z.unknown() }),
  ),
  queues: z.object({
    producers: z.array(Named.extend({ queue: z.string() })),
    consumers: z.array(z.looseObject({ queue: z.string() })),
  }),
  vars: z.record(z.string(), z.string()),
  secrets: z.object({ required: z.array(z.string()) }),
  triggers: z.unknown(),
});

const configuration = (env: string) =>
  Configuration.parse(unstable_readConfig({ config: FILE, env }));

/** All but what each environment has for itself. */
const shared = (config: z.infer<typeof Configuration>) => ({
  ...config,
  name: undefined,
  ratelimits: config.ratelimits.map((limit) => ({ ...limit, namespace_id: undefined })),
  queues: {
    producers: config.queues.producers.map(({ binding }) => binding),
    consumers: config.queues.consumers.map((consumer) => ({ ...consumer, queue: undefined })),
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
    expect(config.queues.consumers[0]?.queue).toBe(config.queues.producers[0]?.queue);
  }
  const own = [tested, ...deployed].flatMap((config) => [
    config.name,
    config.queues.producers[0]?.queue,
    config.ratelimits[0]?.namespace_id,
  ]);
  expect(new Set(own).size).toBe(own.length);
});
