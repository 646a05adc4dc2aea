import t, { type Test } from 'tap';
import { parseFlags } from '../../../src/config/flag-parser.js';

const refused = (t: Test, env: Record<string, string>, message: string): void => {
  t.throws(() => parseFlags([], env), { code: 'E_USAGE', message }, message);
};

t.test('parseFlags() refuses a misspelt variable and names the nearest', (t) => {
  const cases = {
    FLANNELD_ETCD_ENDPOINT: 'FLANNELD_ETCD_ENDPOINTS',
    FLANNELD_ENDPOINTS: 'FLANNELD_ETCD_ENDPOINTS',
    FLANNELD_ETDC_PREFIX: 'FLANNELD_ETCD_PREFIX',
    'FLANNELD_ETCD-PREFIX': 'FLANNELD_ETCD_PREFIX',
    FLANNELD_IPMASQ: 'FLANNELD_IP_MASQ',
    FLANNELD_IFCAE: 'FLANNELD_IFACE',
    FLANNELD_HEALTH_PORT: 'FLANNELD_HEALTHZ_PORT',
    FLANNELD_etcd_prefix: 'FLANNELD_ETCD_PREFIX',
    flanneld_iface: 'FLANNELD_IFACE',
  };
  for (const [name, meant] of Object.entries(cases))
    refused(t, { [name]: 'canary' }, `Unknown variable ${name}: did you mean ${meant}?`);
  t.end();
});

t.test('parseFlags() names all of them, and no nearest where there is none', (t) => {
  const message =
    'Unknown variable FLANNELD_QQ: --help lists all flags; ' +
    'Unknown variable FLANNELD_VV: did you mean FLANNELD_V?';
  refused(t, { FLANNELD_VV: '1', FLANNELD_IFACE: 'eth0', FLANNELD_QQ: '1' }, message);
  refused(t, { 'FLANNELD_X\nY': '1' }, 'Unknown variable FLANNELD_X?Y: --help lists all flags');
  t.end();
});

t.test('parseFlags() leaves alone what is no setting', (t) => {
  const env = {
    FLANNELD_IFCAE: '',
    FLANNELD_VERSION: 'v0.26.4',
    FLANNELD_HELP: 'true',
    FLANNEL_NETWORK: '10.5.0.0/16',
    // Kubernetes, for Services "flanneld" and "flanneld-metrics"
    FLANNELD_SERVICE_HOST: '10.96.0.7',
    FLANNELD_SERVICE_PORT: '80',
    FLANNELD_SERVICE_PORT_HTTP: '80',
    FLANNELD_PORT: 'tcp://10.96.0.7:80',
    FLANNELD_PORT_80_TCP: 'tcp://10.96.0.7:80',
    FLANNELD_PORT_80_TCP_ADDR: '10.96.0.7',
    FLANNELD_METRICS_SERVICE_HOST: '10.96.0.8',
    FLANNELD_METRICS_PORT: 'tcp://10.96.0.8:80',
  };
  t.equal(parseFlags([], env).kind, 'run');
  t.end();
});

t.test('--help and --version answer whatever the environment holds', (t) => {
  for (const word of ['--help', '--version']) t.not(parseFlags([word], { FLANNELD_IFCAE: 'x' }).kind, 'run');
  t.end();
});
