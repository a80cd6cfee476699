/** The formats of strings that are kept, each as a pattern of texts that every validator takes. */

const month31 = '(0[13578]|1[02])';
const month30 = '(0[469]|11)';
const leapYear = '(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)';
const day28 = '(0[1-9]|1\\d|2[0-8])';
const date = `(\\d{4}-((0[1-9]|1[0-2])-${day28}|(${month31}|${month30})-(29|30)|${month31}-31)|${leapYear}-02-29)`;
const offset = '(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)';
const time = `([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?`;
const label = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const byte = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const group = '[0-9A-Fa-f]{1,4}';
// At least two groups are left out where there is a '::'.
const ipv6 = [
  `(${group}:){7}${group}`,
  ...[0, 1, 2, 3, 4, 5, 6].map((before) => {
    const after = 6 - before;
    const left = before === 0 ? '' : `${group}(:${group}){${before - 1}}`;
    return after === 0 ? `${left}::` : `${left}::(${group}(:${group}){0,${after - 1}})?`;
  }),
].join('|');
const urlCharacter = "[A-Za-z0-9._~!$&'()*+,;=:@/-]";
const url = `https?://${label}(\\.${label}){0,5}(:[1-9]\\d{0,3})?(/${urlCharacter}*)?(\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?`;
const duration =
  'P((\\d{1,6}W)|(\\d{1,6}D|\\d{1,6}M(\\d{1,6}D)?|\\d{1,6}Y(\\d{1,6}M(\\d{1,6}D)?)?)(T(\\d{1,6}S|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?))?|T(\\d{1,6}S|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?))';

/** Pattern of each format, for the whole text. */
export const formats: Readonly<Record<string, string>> = {
  date: `^${date}$`,
  time: `^${time}${offset}$`,
  'date-time': `^${date}T${time}${offset}$`,
  duration: `^${duration}$`,
  uuid: '^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
  email: `^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@(${label}\\.){1,4}[A-Za-z]{2,24}$`,
  hostname: `^${label}(\\.${label}){0,5}$`,
  ipv4: `^${byte}(\\.${byte}){3}$`,
  ipv6: `^(${ipv6})$`,
  uri: `^${url}$`,
};
