import t from 'tap';
import { isInOrder, isPresent, restoreScript } from '../../../src/firewall/chain.js';
import { forwardChain, masqueradeChain } from '../../../src/firewall/rules.js';
import { parsePrefix } from '../../../src/net/prefix.js';

const optionsOf = (network: string, subnet: string) => ({
  network: parsePrefix(network)!,
  subnet: parsePrefix(subnet)!,
  isFullyRandom: true,
});
const OPTIONS = optionsOf('10.5.0.0/16', '10.5.1.0/24');
const MASQUERADE = masqueradeChain(OPTIONS);
const FORWARD = forwardChain(OPTIONS);
/** Another daemon's, of another network. */
const OTHER = masqueradeChain(optionsOf('10.50.0.0/16', '10.50.1.0/24'));
const OTHER_FORWARD = forwardChain({ network: parsePrefix('10.50.0.0/16')! });

const deleted = (rules: readonly string[]) => rules.map((rule) => rule.replace('-A', '-D'));
const script = (table: string, lines: readonly string[]) => [`*${table}`, ...lines, 'COMMIT', ''].join('\n');

t.test('restoreScript() makes chain and jump in one transaction', (t) => {
  const foreign = '-A FORWARD -j DOCKER-USER';
  const { rules, jump } = FORWARD;
  const check = (own: readonly string[] | undefined, parent: readonly string[], lines: readonly string[]) =>
    t.equal(restoreScript(FORWARD, { own, parent }, true), script('filter', lines));
  check(undefined, [foreign], ['-N FLANNEL-FWD', ...rules, jump]);
  check([], [foreign, jump], [...rules]);
  check([rules[1]], [jump], [...deleted([rules[1]]), ...rules]);
  const bare = '-A FORWARD -j FLANNEL-FWD';
  check([...rules], [jump, foreign, jump, bare], deleted([jump, bare]));
  const stray = '-A FLANNEL-FWD -s 10.99.0.0/16 -j RETURN';
  check([stray, ...rules], [jump], deleted([stray]));
  t.equal(
    restoreScript(
      MASQUERADE,
      { own: [...MASQUERADE.rules, ...MASQUERADE.shared], parent: [MASQUERADE.jump] },
      true,
    ),
    script('nat', [
      ...deleted(MASQUERADE.shared),
      MASQUERADE.shared[0].replace('-A FLANNEL-POSTRTG', '-I FLANNEL-POSTRTG 1'),
    ]),
    'the shared rule stands first',
  );
  t.end();
});

t.test('restoreScript() adds to the rules of another network, and removes none of them', (t) => {
  const { rules, jump, shared } = MASQUERADE;
  const theirs = [...shared, ...OTHER.rules];
  const check = (own: readonly string[], isWanted: boolean, lines: readonly string[]) =>
    t.equal(restoreScript(MASQUERADE, { own, parent: [jump] }, isWanted), script('nat', lines));
  check(theirs, true, rules);
  check([...theirs, rules[1]], true, [...deleted([rules[1]]), ...rules]);
  check([...theirs, ...rules], false, deleted(rules));
  t.notOk(isInOrder(MASQUERADE, { own: theirs, parent: [jump] }));
  t.ok(isInOrder(MASQUERADE, { own: [...theirs, ...rules], parent: [jump] }), 'beside each other');
  t.ok(
    isInOrder(MASQUERADE, { own: [...shared, ...rules, ...OTHER.rules], parent: [jump] }),
    'in either order',
  );
  t.ok(isInOrder(OTHER, { own: [...theirs, ...rules], parent: [jump] }));
  t.notOk(isPresent(MASQUERADE, { own: theirs, parent: [jump] }), 'nothing of ours among theirs');
  t.ok(isPresent(MASQUERADE, { own: shared, parent: [] }), 'a chain that nobody needs');
  t.end();
});

t.test('restoreScript() removes the rules of a former network or subnet', (t) => {
  const former = masqueradeChain(optionsOf('10.4.0.0/16', '10.4.1.0/24'));
  const moved = masqueradeChain({ ...OPTIONS, subnet: parsePrefix('10.5.2.0/24')! });
  const { rules, jump, shared } = MASQUERADE;
  const chain = masqueradeChain({ ...OPTIONS, formerNetwork: parsePrefix('10.4.0.0/16')! });
  for (const own of [former.rules, moved.rules]) {
    t.equal(
      restoreScript(chain, { own: [...shared, ...own, ...OTHER.rules], parent: [jump] }, true),
      script('nat', [...deleted(own), ...rules]),
    );
  }
  const old = (network: string) =>
    `-A FORWARD -s ${network} -m comment --comment "flanneld forward" -j ACCEPT`;
  t.equal(
    restoreScript(FORWARD, { own: [], parent: [old('10.5.0.0/16'), old('10.4.0.0/16')] }, true),
    script('filter', [...FORWARD.rules, ...deleted([old('10.5.0.0/16')]), FORWARD.jump]),
    'rules of flanneld before v0.20: ours alone',
  );
  t.end();
});

t.test('restoreScript() removes the chain with the last network', (t) => {
  const { rules, jump } = FORWARD;
  const own = [...rules, '-A FLANNEL-FWD -j ACCEPT'];
  t.equal(
    restoreScript(FORWARD, { own, parent: [jump] }, false),
    script('filter', [...deleted([rules[0], rules[1], jump, own[2]]), '-X FLANNEL-FWD']),
  );
  const all = { ...FORWARD, networks: undefined };
  t.equal(
    restoreScript(all, { own: OTHER_FORWARD.rules, parent: [jump] }, false),
    script('filter', [...deleted([...OTHER_FORWARD.rules, jump]), '-X FLANNEL-FWD']),
    'the rules of all networks',
  );
  t.end();
});

t.test('isInOrder() notices a rule that is missing, moved, doubled or added', (t) => {
  const { jump } = MASQUERADE;
  const rules = [...MASQUERADE.shared, ...MASQUERADE.rules];
  const check = (
    own: readonly string[] | undefined,
    parent: readonly string[],
    isRight: boolean,
    what: string,
  ) => t.equal(isInOrder(MASQUERADE, { own, parent }), isRight, what);
  check(rules, ['-A POSTROUTING -j KUBE', jump, '-A POSTROUTING -j OTHER'], true, 'others around the jump');
  check(undefined, [jump], false, 'no chain');
  check(rules, [], false, 'no jump');
  check(rules, [jump, jump], false, 'two jumps');
  check(rules.slice(1), [jump], false, 'missing');
  check([rules[0], rules[2], rules[1], ...rules.slice(3)], [jump], false, 'moved');
  check([...rules.slice(1), rules[0]], [jump], false, 'shared rule last');
  check([...rules, rules[0]], [jump], false, 'shared rule doubled');
  check([...rules, rules[1]], [jump], false, 'doubled');
  check([...rules, '-A FLANNEL-POSTRTG -j ACCEPT'], [jump], false, 'added by hand');
  t.end();
});
