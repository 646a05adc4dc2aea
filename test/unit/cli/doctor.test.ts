import t from 'tap';
import { examine } from '../../../src/cli/doctor.js';
import { parseFlags } from '../../../src/config/flags.js';

async function etcdFindings(endpoints: string): Promise<string[]> {
  const parsed = parseFlags([`--etcd-endpoints=${endpoints}`], {});
  if (parsed.kind !== 'run') throw new Error('no flags');
  const findings = await examine('/nonexistent/twilld.sock', parsed.flags);
  return findings.flatMap(({ check, state, text }) => (check === 'etcd' ? [`${state} ${text}`] : []));
}

t.test('examine() reads endpoints as the daemon does, and shows no password of theirs', async (t) => {
  t.strictSame(await etcdFindings('127.0.0.1:1 ,http://127.0.0.1:1/'), [
    'fail http://127.0.0.1:1: ECONNREFUSED',
  ]);
  const secret = await etcdFindings('http://127.0.0.1:1,root:canary@127.0.0.1:1');
  t.match(secret, [/^fail Cannot use etcd endpoint "\[redacted\]", item 2/]);
  t.notMatch(secret[0], /canary/);
});
