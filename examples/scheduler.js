// A scheduler's client in Node: where may an endpoint go, take its addresses there, follow all addresses.
//
//   npm install @grpc/grpc-js @grpc/proto-loader
//   node examples/scheduler.js 127.0.0.1:9620 TENANT NAME
//
// It works without generated code: the protos are read when it starts.
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const ROOT = path.join(__dirname, '..');
const definitions = protoLoader.loadSync('romana/ipam/v1/ipam_service.proto', {
  includeDirs: [path.join(ROOT, 'protos'), path.join(ROOT, 'third_party', 'googleapis')],
  keepCase: true,
  longs: String, // uint64, such as the free addresses of an IPv6 network
  enums: String,
  defaults: true,
});
const { IpamService } = grpc.loadPackageDefinition(definitions).romana.ipam.v1;

const OPTIONS = {
  'grpc.max_receive_message_length': 16 * 1024 * 1024, // an answer may have 16 MiB
  'grpc.keepalive_time_ms': 10_000,
  'grpc.enable_http_proxy': 0,
};
const ATTEMPT_MS = 4_000;
const DEADLINE_MS = 10_000;
const AGAIN = [grpc.status.UNAVAILABLE, grpc.status.ABORTED, grpc.status.DEADLINE_EXCEEDED];

/** One call, again after what may pass: every change may be sent twice. */
async function call(client, method, request) {
  const end = Date.now() + DEADLINE_MS;
  for (let pause = 50; ; pause = Math.min(pause * 2, 1_000)) {
    try {
      const deadline = new Date(Math.min(end, Date.now() + ATTEMPT_MS));
      return await new Promise((resolve, reject) => {
        client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
      });
    } catch (error) {
      if (!AGAIN.includes(error.code) || Date.now() + pause >= end) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * pause));
    }
  }
}

/** Takes an address of each family on the best node that still has them; null: there is none. */
async function place(client, tenant, name, addresses) {
  const { evaluations } = await call(client, 'EvaluateNodes', { tenant, addresses });
  for (const { node } of evaluations.filter((each) => each.fits)) {
    try {
      const spec = { name, node, tenant, addresses };
      return (await call(client, 'AllocateAddress', { spec })).allocations;
    } catch (error) {
      if (error.code !== grpc.status.RESOURCE_EXHAUSTED) throw error; // somebody was faster: the next one
    }
  }
  return null;
}

/** Calls `changed` with all addresses in use, by address, whenever they are others; ends at an error. */
function follow(client, tenant, changed) {
  const inUse = new Map();
  let inSync = false;
  const stream = client.WatchAllocations({ tenant });
  stream.on('data', (message) => {
    message.allocated.forEach((each) => inUse.set(each.address, each));
    message.released.forEach((address) => inUse.delete(address));
    inSync ||= message.in_sync;
    if (inSync) changed(inUse);
  });
  return stream;
}

async function main([address, tenant, name]) {
  const client = new IpamService(address, grpc.credentials.createInsecure(), OPTIONS);
  const allocations = await place(client, tenant, name, [{ family: 'FAMILY_IPV4' }]);
  if (allocations === null) throw new Error(`no node has room for ${tenant}`);
  for (const each of allocations) console.log(`${name} has ${each.address} on ${each.node}`);
  await new Promise((resolve, reject) => {
    const stream = follow(client, tenant, (inUse) => {
      if (![...inUse.values()].some((each) => each.name === name)) return;
      console.log(`${tenant} has ${inUse.size} in use`);
      stream.cancel();
      resolve();
    });
    stream.on('error', (error) => (error.code === grpc.status.CANCELLED ? resolve() : reject(error)));
  });
  await call(client, 'ReleaseAddress', { spec: { name, tenant } });
  console.log(`${name} is released`);
  client.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`Error: ${error.details || error.message}`);
  process.exitCode = 1;
});
