/** The readings of a profile as a table for other programs (RFC 4180, a header, points as decimal marks). */
import type { ProfileResult } from './profile-result.js';

/** By this a file is known as such a table. */
export const csvStart = 'time_s,phase,turn,repetition,tokens_prefill,tokens_decode,resident_bytes,available_bytes,watts';

/** A row per reading of the meter, or per reading of memory without one. An empty cell is a reading that is missing. */
export function profileCsv({ timeline }: ProfileResult): string {
  const { power, memory, tokens, phases } = timeline;
  const times = power.atMs.length > 0 ? power.atMs : memory.atMs;
  const header = [csvStart, ...power.rails.map(({ name }) => cell(`watts ${name}`))].join(',');
  let slow = -1; // the latest reading of memory and tokens
  let stretch = 0;
  const rows = times.map((atMs, i) => {
    while (slow + 1 < memory.atMs.length && memory.atMs[slow + 1]! <= atMs) slow++;
    while (stretch < phases.length && phases[stretch]!.endMs < atMs) stretch++;
    const phase = stretch < phases.length && phases[stretch]!.startMs <= atMs ? phases[stretch]! : null;
    const values = [
      (atMs / 1000).toFixed(4),
      phase?.name ?? '',
      phase?.turn ?? '',
      phase?.repetition ?? '',
      tokens.prefill[slow] ?? '',
      tokens.decode[slow] ?? '',
      memory.residentBytes[slow] ?? '',
      memory.availableBytes[slow] ?? '',
      power.watts[i] ?? '',
      ...power.rails.map(({ watts }) => watts[i] ?? ''),
    ];
    return values.join(',');
  });
  return `${[header, ...rows].join('\r\n')}\r\n`;
}

function cell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
