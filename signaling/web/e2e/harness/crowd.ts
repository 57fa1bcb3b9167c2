// Many people at little cost: the load-test client.

import { fileURLToPath } from 'node:url';

import type { Mesh } from './mesh';
import { Process, built } from './process';

const SCRIPT = fileURLToPath(new URL('../crowd.js', import.meta.url));

/** They are in the room soon after; `kill` ends them. */
export function crowd(mesh: Mesh, room: string, people: number): Process {
  const env = { SFU_URL: mesh.webSocketUrl, ROOM: room, PEOPLE: `${people}` };
  const flags = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  return Process.start(built('pipemesh-loadtest'), ['run', '--quiet', '--no-color', ...flags, SCRIPT]);
}
