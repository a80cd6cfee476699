// One headless Chromium for a whole run, with a new page for every sample.
import { cpus } from 'node:os';
import { chromium } from 'playwright-core';

const limitMs = 1_200_000;

export class Chromium {
  /** @param {string} executablePath */
  static async start(executablePath) {
    const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
    return new Chromium(browser, await browser.newBrowserCDPSession());
  }

  constructor(browser, session) {
    this.browser = browser;
    this.session = session;
    this.version = `Chromium ${browser.version()}`;
  }

  /** Opens the model in a new page, then measures. */
  async measure(address, settings) {
    const { prompt, steps, prefill } = settings;
    const page = await this.browser.newPage();
    let timer;
    // A page that crashes leaves its calls pending.
    const ended = new Promise((_, reject) => {
      page.on('crash', () => reject(new Error('the page crashed')));
      timer = setTimeout(() => reject(new Error(`no answer within ${limitMs / 1000} s`)), limitMs);
    });
    ended.catch(() => undefined);
    const call = (work, given) => Promise.race([ended, page.evaluate(([name, argument]) => window.benchmark[name](argument), [work, given])]);
    try {
      await page.goto(address);
      await page.waitForFunction(() => window.benchmark !== undefined);
      const opened = await call('open', settings);
      const before = { own: await this.cpuSeconds(), all: busySeconds(), at: performance.now() };
      const short = await call('generate', { length: prompt, count: steps });
      const seconds = (performance.now() - before.at) / 1000;
      const own = await this.cpuSeconds() - before.own;
      const othersCores = Math.max(0, (busySeconds() - before.all - own) / seconds);
      const long = await call('generate', { length: prefill, count: 1 });
      return {
        ...opened, othersCores, timings: { short, long },
        metrics: {
          prefillTokensPerSecond: (prefill / long.promptMs) * 1000,
          decodeTokensPerSecond: ((steps - 1) / short.decodeMs) * 1000,
          answerMs: short.callMs,
          // Prompts that were given up would count.
          answerCpuMs: short.tries === 1 ? own * 1000 : null,
          cores: own / seconds,
        },
      };
    } finally {
      clearTimeout(timer);
      await page.close();
    }
  }

  close() {
    return this.browser.close();
  }

  /** Processor time of all processes of this Chromium. */
  async cpuSeconds() {
    const { processInfo } = await this.session.send('SystemInfo.getProcessInfo');
    return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
  }
}

/** Processor time that everything on this machine has used. */
function busySeconds() {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000;
}
