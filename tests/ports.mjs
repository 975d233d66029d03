// Ports for servers that go and come back while their clients try to reach them.

import net from 'node:net';

let next = process.pid * 101;

/**
 * A port that is free and stays so while its server is away: it is none of those that the system gives to clients, of which
 * a browser that tries to come back takes one after the other.
 */
export async function freePort() {
  for (;;) {
    const port = 12000 + next++ % 20000, probe = net.createServer();
    const isFree = await new Promise(done => probe.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true)));
    await new Promise(done => isFree ? probe.close(done) : done());
    if (isFree) return port;
  }
}
