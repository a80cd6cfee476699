// Lines of tegrastats as boards printed them, by release: the right rails in the right unit, and nothing that makes it throw.
import t from 'tap';
import { parseTegrastats, tegrastatsValues } from '../../sdk/src/devices/tegrastats.js';
import { randomNumbers } from './sensor.js';

/** Name, line, rails in mW, temperatures, GPU load, cores that are on of how many. */
const lines: [string, string, Record<string, number>, number, number | null, [number, number]][] = [
  ["TX1", 'RAM 1179/3983MB (lfb 120x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,4%@102,0%@102,0%@102] EMC_FREQ 7%@408 GR3D_FREQ 0%@76 APE 25 AO@42.5C CPU@37.5C GPU@39C PLL@37C Tdiode@42.75C PMIC@100C Tboard@42C thermal@38.5C VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19', {"VDD_IN": 2532, "VDD_CPU": 76, "VDD_GPU": 19}, 8, 0, [4, 4]],
  ["TX2", 'RAM 2344/7852MB (lfb 1154x4MB) SWAP 0/3926MB (cached 0MB) CPU [1%@345,off,off,1%@345,0%@345,2%@345] EMC_FREQ 4%@1600 GR3D_FREQ 0%@624 APE 150 PLL@37.5C MCPU@37.5C PMIC@100C Tboard@32C GPU@35C BCPU@37.5C thermal@36.5C Tdiode@34.25C VDD_SYS_GPU 152/152 VDD_SYS_SOC 687/687 VDD_4V0_WIFI 0/0 VDD_IN 3056/3056 VDD_SYS_CPU 152/152 VDD_SYS_DDR 883/883', {"VDD_SYS_GPU": 152, "VDD_SYS_SOC": 687, "VDD_4V0_WIFI": 0, "VDD_IN": 3056, "VDD_SYS_CPU": 152, "VDD_SYS_DDR": 883}, 8, 0, [4, 6]],
  ["Nano", 'RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) CPU [16%@204,9%@204,0%@204,0%@204] EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@34C CPU@36.5C PMIC@100C GPU@36C AO@39.5C thermal@36.25C POM_5V_IN 1022/1022 POM_5V_GPU 0/0 POM_5V_CPU 204/204', {"POM_5V_IN": 1022, "POM_5V_GPU": 0, "POM_5V_CPU": 204}, 6, 0, [4, 4]],
  ["AGX-X", 'RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU [2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C Tboard@37C GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482', {"GPU": 0, "CPU": 311, "SOC": 932, "CV": 0, "VDDRQ": 621, "SYS5V": 1482}, 8, 0, [4, 8]],
  ["X-NX", 'RAM 4412/7772MB (lfb 237x4MB) SWAP 139/3886MB (cached 2MB) CPU [9%@1190,6%@1190,6%@1190,5%@1190,4%@1190,8%@1267] EMC_FREQ 10%@1600 GR3D_FREQ 62%@306 APE 150 MTS fg 0% bg 0% AO@41.5C GPU@43C PMIC@100C AUX@41.5C CPU@43.5C thermal@42.55C VDD_IN 4067/4067 VDD_CPU_GPU_CV 738/738 VDD_SOC 1353/1353', {"VDD_IN": 4067, "VDD_CPU_GPU_CV": 738, "VDD_SOC": 1353}, 6, 62, [6, 6]],
  ["ONX35", 'RAM 6334/15388MB (lfb 1770x4MB) SWAP 491/7694MB (cached 0MB) CPU [6%@729,9%@729,5%@729,16%@729,off,off,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@611 VIC_FREQ 729 APE 174 CV0@45.812C CPU@47.937C SOC2@46.093C SOC0@46.968C CV1@46.406C GPU@45.875C tj@48.875C SOC1@48.875C CV2@45.75C VDD_IN 5299mW/5299mW VDD_CPU_GPU_CV 773mW/773mW VDD_SOC 1424mW/1424mW', {"VDD_IN": 5299, "VDD_CPU_GPU_CV": 773, "VDD_SOC": 1424}, 9, 0, [4, 8]],
  ["AO36", 'RAM 29114/30697MB (lfb 3x4MB)    SWAP 4915/15348MB (cached 1MB) CPU [3%@729,4%@729,0%@729,1%@729,0%@2201,100%@2201,1%@2201,0%@2201,100%@2201,0%@2201,0%@2201,0%@2201] EMC_FREQ 1%@2133 GR3D_FREQ 0%@[305,305] NVENC      off  NVDEC    off NVJPG off NVJPG1    off         VIC        off          OFA           off          NVDLA0    off       NVDLA1     off          PVA0_FREQ off         APE           174        cpu@53.062C soc2@48.25C soc0@48.843C  gpu@47.812C tj@53.062C soc1@48.968C    VDD_GPU_SOC 3205mW/3205mW VDD_CPU_CV 4405mW/4405mW VIN_SYS_5V0 4767mW/4767mW', {"VDD_GPU_SOC": 3205, "VDD_CPU_CV": 4405, "VIN_SYS_5V0": 4767}, 6, 0, [12, 12]],
  ["AO36nr", 'RAM 2448/62840MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) CPU [0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201,0%@2201] GR3D_FREQ 0% cpu@42C soc2@37.843C soc0@39.187C gpu@37.75C tj@42C soc1@37.937C VDD_GPU_SOC 4940mW/4940mW VDD_CPU_CV 988mW/988mW VIN_SYS_5V0 4442mW/4442mW', {"VDD_GPU_SOC": 4940, "VDD_CPU_CV": 988, "VIN_SYS_5V0": 4442}, 6, 0, [12, 12]],
  ["TX1 r28", 'RAM 3691/3983MB (lfb 3x2MB) SWAP 2780/8192MB (cached 284MB) cpu [0%,0%,0%,0%]@1734 EMC 0%@1600 APE 25 GR3D 0%@998', {}, 0, 0, [4, 4]],
  ["TX2 2026", 'RAM 3276/7859MB (lfb 5x4MB) SWAP 1626/12122MB (cached 181MB) CPU [44%@1421,49%@2031,67%@2034,17%@1420,25%@1419,8%@1420] EMC_FREQ 1%@1866 GR3D_FREQ 0%@114 APE 150 MTS fg 1% bg 1% PLL@42.5C MCPU@42.5C PMIC@50C Tboard@38C GPU@39.5C BCPU@42.5C thermal@41.3C Tdiode@39.25C VDD_SYS_GPU 182/182 VDD_SYS_SOC 730/730 VDD_4V0_WIFI 0/0 VDD_IN 5297/5297 VDD_SYS_CPU 1917/1917 VDD_SYS_DDR 1241/1241', {"VDD_SYS_GPU": 182, "VDD_SYS_SOC": 730, "VDD_4V0_WIFI": 0, "VDD_IN": 5297, "VDD_SYS_CPU": 1917, "VDD_SYS_DDR": 1241}, 8, 0, [6, 6]],
  ["Orin NX 8 GB class r36 under load", '05-15-2025 18:30:28 RAM 6982/7620MB (lfb 5x1MB) SWAP 2640/16384MB (cached 202MB) CPU [97%@1984,95%@1984,95%@1984,91%@1984,88%@1984,93%@247] EMC_FREQ 18%@3199 GR3D_FREQ 84%@[713] NVENC 1%@115 NVDEC 40%@115 NVJPG off NVJPG1 off VIC 31%@115 OFA off NVDLA0 off PVA0_FREQ off APE 174 cv0@63.031C cpu@65.562C soc2@64.156C soc0@63.031C cv1@62.937C gpu@63.5C tj@65.562C soc1@64.718C cv2@60.875C VDD_IN 17946mW/15710mW VDD_CPU_GPU_CV 8896mW/7585mW VDD_SOC 3923mW/3515mW', {"VDD_IN": 17946, "VDD_CPU_GPU_CV": 8896, "VDD_SOC": 3923}, 9, 84, [6, 6]],
  ["AGX Orin 64 JetPack 5 style", '04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C Tboard@32C SOC2@40.093C Tdiode@33C SOC0@41.093C CV1@-256C GPU@-256C tj@44.343C SOC1@41.25C CV2@-256C VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW', {"VDD_GPU_SOC": 2340, "VDD_CPU_CV": 390, "VIN_SYS_5V0": 4025, "VDDQ_VDD2_1V8AO": 301}, 7, 0, [12, 12]],
  ["AGX Orin r36.4.4", '05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@2188,5%@2112,8%@2035,14%@2201,46%@1267,47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,6%@1036,10%@1036] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.562C soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW', {"VDD_GPU_SOC": 2412, "VDD_CPU_CV": 1607, "VIN_SYS_5V0": 4707}, 5, 0, [12, 12]],
  ["AGX Orin r39.2", '07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201,14%@2201,30%@2201,18%@2201,10%@2201,10%@2201,33%@2201,7%@2201,5%@2201,27%@2201] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off VIC off OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C soc0@49.531C/49.531C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW', {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500}, 4, 12, [12, 12]],
  ["Thor r38.4 with VIN", '04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,1%@972,0%@972,0%@972,0%@972,0%@972,8%@972,0%@972,0%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314] NVENC0_FREQ @314 NVENC1_FREQ @314 NVDEC0_FREQ @314 NVDEC1_FREQ @314 NVJPG0_FREQ @314 VIC off OFA_FREQ @315 PVA0_FREQ off APE 300 cpu@37.343C tj@38.875C soc012@37.468C gpu@38.875C soc345@37.406C VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW VIN 19780mW/19780mW', {"VDD_GPU": 1962, "VDD_CPU_SOC_MSS": 5887, "VIN_SYS_5V0": 5635, "VIN": 19780}, 5, null, [14, 14]],
  ["Orin Nano r36 user", '03-09-2026 14:12:52 RAM 1905/7620MB (lfb 36x4MB) SWAP 320/12002MB (cached 20MB) CPU [0%@729,0%@729,1%@729,0%@729,0%@729,0%@729] GR3D_FREQ 0% cpu@46.125C soc2@45.843C soc0@44.156C gpu@45.062C tj@46.125C soc1@46C VDD_IN 4742mW/4742mW VDD_CPU_GPU_CV 482mW/482mW VDD_SOC 1446mW/1446mW', {"VDD_IN": 4742, "VDD_CPU_GPU_CV": 482, "VDD_SOC": 1446}, 6, 0, [6, 6]],
  ["Orin Nano r39 user", '09-01-2026 09:25:18 RAM 5739/7546MB (lfb 1x2MB) SWAP 2047/2048MB (cached 209MB) CPU [72%@1728,75%@1728,88%@1728,79%@1728,87%@1728,78%@1728] GR3D_FREQ 33% cpu@50C/50C soc2@47.937C/47.937C soc0@48.437C/48.437C gpu@48.75C/48.75C tj@50C/50C soc1@48.5C/48.5C VDD_IN 9761mW/9761mW/9761mW VDD_CPU_GPU_CV 4238mW/4238mW/4238mW VDD_SOC 1825mW/1825mW/1825mW', {"VDD_IN": 9761, "VDD_CPU_GPU_CV": 4238, "VDD_SOC": 1825}, 6, 33, [6, 6]],
  ["Thor r38.4, no VIN", '05-17-2026 10:00:32 RAM 4208/125773MB (lfb 31x4MB) SWAP 0/2048MB (cached 0MB) CPU [1%@972,0%@972,..] EMC_FREQ 0%@665 GR3D_FREQ @[0,0,0] NVENC0_FREQ @0 .. VIC off OFA_FREQ @0 PVA0_FREQ off APE 300 cpu@34.468C tj@34.5C soc012@33.781C soc345@34.5C VDD_GPU 0mW/0mW VDD_CPU_SOC_MSS 4165mW/4165mW VIN_SYS_5V0 4126mW/4126mW', {"VDD_GPU": 0, "VDD_CPU_SOC_MSS": 4165, "VIN_SYS_5V0": 4126}, 4, null, [2, 3]],
  ["Thor r39 idle", '.. VDD_GPU 4925mW/4925mW/4925mW VDD_CPU_SOC_MSS 7953mW/8332mW/8710mW VIN_SYS_5V0 6667mW/6717mW/6767mW', {"VDD_GPU": 4925, "VDD_CPU_SOC_MSS": 7953, "VIN_SYS_5V0": 6667}, 0, null, [0, 0]],
  ["Thor r39 loaded", '.. EMC_FREQ 34%@4266 GR3D_FREQ 87%@[1574,1574,1574] .. cpu@58.25C/61.75C tj@66.625C/66.625C .. VDD_GPU 37939mW/8660mW/37939mW VDD_CPU_SOC_MSS 30059mW/12281mW/30059mW VIN_SYS_5V0 15486mW/7424mW/15486mW VIN 124486mW/36487mW/124486mW', {"VDD_GPU": 37939, "VDD_CPU_SOC_MSS": 30059, "VIN_SYS_5V0": 15486, "VIN": 124486}, 2, 87, [0, 0]],
];

t.test('every line', async (t) => {
  t.ok(lines.length >= 20, `${lines.length} lines`);
  for (const [name, line, rails, temperatures, load, [on, cores]] of lines) {
    const parsed = parseTegrastats(line);
    t.same(Object.fromEntries(parsed.rails.map((rail) => [rail.name, rail.milliwatts])), rails, `${name}: rails`);
    t.equal(parsed.rails.length, Object.keys(rails).length, `${name}: no rail twice`);
    t.equal(parsed.temperatures.length, temperatures, `${name}: temperatures`);
    t.equal(parsed.gpuLoad, load, `${name}: load of the GPU`);
    t.same([parsed.cores.filter((core) => core !== null).length, parsed.cores.length], [on, cores], `${name}: cores`);
  }
});

const line = (name: string): string => lines.find(([other]) => other.startsWith(name))![1];

t.test('numbers of single lines', async (t) => {
  t.match(parseTegrastats(line('AO36')), { memory: { usedMegabytes: 29114, totalMegabytes: 30697 }, gpuMegahertz: 305, memoryMegahertz: 2133 });
  t.match(parseTegrastats(line('TX1 r28')), { gpuMegahertz: 998, memoryMegahertz: 1600, cores: [{ load: 0, megahertz: 1734 }] });
  t.same(parseTegrastats(line('Thor r38.4 with VIN')).gpuMegahertz, 314, 'a clock without load');
  t.match(parseTegrastats(line('TX2')).cores[1], null, 'a core that is off');
  t.same(parseTegrastats('EMC_FREQ @4266 CPU [0%,5%,off]@2601'), { rails: [], temperatures: [], memory: null, cores: [{ load: 0, megahertz: 2601 }, { load: 5, megahertz: 2601 }, null], gpuLoad: null, gpuMegahertz: null, memoryMegahertz: 4266 });
  t.same(parseTegrastats('GPU@37.5C GPU 150/140 NC 0mW/0mW VDD_GPU -392mW/10mW').rails, [{ name: 'GPU', milliwatts: 150 }, { name: 'VDD_GPU', milliwatts: -392 }], 'a rail and a zone of one name, NC, and a negative reading');
  t.same(parseTegrastats('cpu@58.25C/61.75C').temperatures, [{ zone: 'cpu', celsius: 58.25 }], 'the second is the maximum since the start');
});

t.test('watts of the rails that a meter wants', async (t) => {
  t.same(tegrastatsValues('VDD_IN 4742mW/4700mW/4800mW', ['VDD_IN', 'VDD_SOC']), [4.742, null]);
});

t.test('broken lines never throw', async (t) => {
  const random = randomNumbers(11);
  for (let trial = 0; trial < 2000; trial++) {
    const [, whole] = lines[Math.floor(random() * lines.length)]!;
    const cut = Math.floor(random() * whole.length);
    const broken = random() < 0.5 ? whole.slice(0, cut) : `${whole.slice(0, cut)}${String.fromCharCode(32 + Math.floor(random() * 95))}${whole.slice(cut + 1)}`;
    for (const { milliwatts } of parseTegrastats(broken).rails) if (!Number.isInteger(milliwatts)) t.fail(broken);
  }
  for (const text of ['', '\0', 'RAM', 'VDD_IN /', 'VDD_IN 5/', 'CPU []', '[[[', 'VDD_IN 99999999999999999999mW/1mW']) t.doesNotThrow(() => parseTegrastats(text), JSON.stringify(text));
});
