// A relay server of our own: coturn with the scheme that signaling makes credentials for.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { X509Certificate, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { accepts } from './mesh';
import { freePorts } from './ports';
import { until, within } from './wait';

const SECRET = 'north-wind-and-sun-42-and-a-cloak';

const HOST = '127.0.0.1';

export class Coturn {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    readonly urls: { udp: string; tls: string },
    /** A file with the secret that makes credentials. */
    readonly secretFile: string,
    /** For a browser that is to believe its certificate, which nobody has signed. */
    readonly fingerprint: string,
  ) {}

  static async start(): Promise<Coturn> {
    const [plain, tls] = await freePorts(2);
    const folder = mkdtempSync(join(tmpdir(), 'pipemesh-coturn-'));
    const [certificate, key, secretFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem'), join(folder, 'secret')];
    writeFileSync(secretFile, SECRET, { mode: 0o600 });
    execFileSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-subj', '/CN=coturn', '-addext', `subjectAltName=IP:${HOST}`, '-keyout', key, '-out', certificate],
    ], { stdio: 'ignore' });
    const flags = [
      ...['--use-auth-secret', `--static-auth-secret=${SECRET}`, '--realm=pipemesh.test', '--fingerprint', '--no-cli'],
      ...[`--listening-ip=${HOST}`, `--relay-ip=${HOST}`, '--allow-loopback-peers'],
      ...[`--listening-port=${plain}`, `--tls-listening-port=${tls}`, `--cert=${certificate}`, `--pkey=${key}`],
      ...['--no-dtls', '--no-rfc5780', '--log-file=stdout', `--pidfile=${join(folder, 'pid')}`, `--userdb=${join(folder, 'db')}`],
    ];
    const child = spawn('turnserver', ['-n', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    const log: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        log.push(chunk.toString());
      });
    }
    const opens = until(20_000, 'coturn to listen', () => accepts(HOST, tls ?? 0), () => log.join('').slice(-4000));
    const failed = once(child, 'error').then(([error]) => Promise.reject(error as Error));
    try {
      await Promise.race([opens, failed]);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
    const publicKey = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: 'spki', format: 'der' });
    return new Coturn(
      child,
      folder,
      { udp: `turn:${HOST}:${plain}?transport=udp`, tls: `turns:${HOST}:${tls}?transport=tcp` },
      secretFile,
      createHash('sha256').update(publicKey).digest('base64'),
    );
  }

  async stop(): Promise<void> {
    const closed = once(this.child, 'close');
    this.child.kill('SIGTERM');
    await within(10_000, 'coturn to end', closed);
    rmSync(this.folder, { recursive: true });
  }
}
