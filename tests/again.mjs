// Runs a command of tests; what fails gets a second chance, alone. Real browsers, proxies and a busy machine are not ours to
// hold still, and one hiccup in twenty minutes must not hide a thousand results. It is no excuse for a test: whatever
// passed only then is printed at the end as flaky, to be mended like any fault, and more than a few failures are believed
// at once.
//
//     node tests/again.mjs cargo test --no-fail-fast
//     node tests/again.mjs node --test tests/js/*.test.mjs

import { spawn } from 'node:child_process';
import { basename } from 'node:path';

/** More than this is no accident. */
const MOST = 3;

/** Runs it and shows what it prints. Gives its exit code and that output. */
function run([program, ...args]) {
  console.log(`$ ${[program, ...args].join(' ')}`);
  return new Promise(done => {
    const child = spawn(program, args, { stdio: ['inherit', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', text => { output += text; process.stdout.write(text); });
    child.on('error', error => { console.error(error.message); done({ code: 127, output }); });
    child.on('close', code => done({ code: code ?? 1, output }));
  });
}

const unique = matches => [...new Set([...matches].map(match => match[1]))];

/** For each kind of runner: what failed by its output, and the command that runs just that. */
const RUNNERS = {
  cargo: {
    failed: output => unique(output.matchAll(/^test (\S+) \.\.\. FAILED$/gm)),
    alone: (command, name) => [...command, '--', '--exact', name],
    ran: output => /^test result: ok\. [1-9]/m.test(output),
  },
  // A file of them shares a server and a browser, so it runs as a whole.
  node: {
    failed: output => unique(output.matchAll(/^ *location: '(.+\.mjs):\d+:\d+'$/gm)),
    alone: (command, file) => [...command.filter(word => !word.endsWith('.mjs')), file],
    ran: output => /^# pass [1-9]/m.test(output),
  },
};

const command = process.argv.slice(2);
const runner = RUNNERS[basename(command[0] ?? '')];
if (!runner) throw Error('usage: node tests/again.mjs cargo|node ARGUMENTS');

const first = await run(command);
if (first.code === 0) process.exit(0);
const failed = runner.failed(first.output);
if (failed.length === 0 || failed.length > MOST) process.exit(first.code);

for (const name of failed) {
  const second = await run(runner.alone(command, name));
  if (second.code !== 0 || !runner.ran(second.output)) process.exit(second.code || 1);
}
for (const name of failed) console.log(`FLAKY: ${name} failed, and passed when it ran alone. Find out why.`);
