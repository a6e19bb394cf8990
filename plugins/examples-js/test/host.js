// Stands for Causeway in tests: gives policies the host's log.
import { register } from 'node:module';

const log = 'export function write(level, message) { (globalThis.logged ??= []).push(`${level}: ${message}`); }';
const loader = `
  export async function resolve(name, context, next) {
    if (!name.startsWith('causeway:policy/log@')) return next(name, context);
    return { url: 'data:text/javascript,${encodeURIComponent(log)}', shortCircuit: true };
  }`;
register(`data:text/javascript,${encodeURIComponent(loader)}`);
