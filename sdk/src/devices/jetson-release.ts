/** The Jetson Linux (L4T) release of a board and the JetPack that brought it. */
import type { SystemFiles } from './system-files.js';

/** The release of Jetson Linux that a board runs. */
export interface JetsonRelease {
  /** `36.4.4` */
  l4t: string;
  /** `6.2.1`; null for a release that this version does not know. */
  jetpack: string | null;
  /** The file that told. */
  source: string;
}

// The first entry that the release is, or is a revision of.
const jetpacks: readonly (readonly [string, string])[] = [
  ['28', '3'],
  ['32.6.1', '4.6'],
  ['32.7.1', '4.6.1'],
  ['32', '4'],
  ['34.1.1', '5.0.1 DP'],
  ['35.1', '5.0.2'],
  ['35.2.1', '5.1'],
  ['35.3.1', '5.1.1'],
  ['35.4.1', '5.1.2'],
  ['35.5', '5.1.3'],
  ['35.6.0', '5.1.4'],
  ['35.6.1', '5.1.5'],
  ['35.6.2', '5.1.5'],
  ['35.6.3', '5.1.5'],
  ['35.6.4', '5.1.6'],
  ['36.2', '6.0 DP'],
  ['36.3', '6.0'],
  ['36.4.0', '6.1'],
  ['36.4.3', '6.2'],
  ['36.4.4', '6.2.1'],
  ['36.4.7', '6.2.1'],
  ['36.5', '6.2.2'],
  ['38.2', '7.0'],
  ['38.4', '7.1'],
  ['39.0', '7.2 EA'],
  ['39.2.0', '7.2'],
  ['39.2.1', '7.2.1'],
];

/** Null where there is no sign of Jetson Linux, as in most containers. */
export function jetsonRelease(files: SystemFiles): JetsonRelease | null {
  const releaseFile = '/etc/nv_tegra_release';
  const text = files.text(releaseFile);
  // The board and the date of this line are misleading or change their format, so only the numbers are read.
  const line = text === null ? null : /R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)/.exec(text);
  if (line !== null) return release(`${line[1]}.${line[2]}`, releaseFile);
  const packages = '/var/lib/dpkg/status';
  const core = files.text(packages)?.split(/\n\n/).find((entry) => /^Package: nvidia-l4t-core$/m.test(entry));
  const version = core === undefined ? null : /^Version: (\d+(?:\.\d+)+)/m.exec(core);
  return version === null ? null : release(version[1]!, packages);
}

function release(l4t: string, source: string): JetsonRelease {
  const found = jetpacks.find(([known]) => l4t === known || l4t.startsWith(`${known}.`));
  return { l4t, jetpack: found?.[1] ?? null, source };
}
