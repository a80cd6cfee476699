// The exact programme against trying everything, and what `--mode mixed` makes of a model.
import t from 'tap';
import { allocateWidths, type WidthChoice } from '../../sdk/src/bit-allocation.js';
import { randomIntegers } from '../../sdk/src/calibration.js';

const total = (matrices: WidthChoice[][], chosen: number[], of: keyof WidthChoice): number =>
  matrices.reduce((sum, choices, i) => sum + choices[chosen[i]!]![of], 0);

function tryAll(matrices: WidthChoice[][], budget: number): number | null {
  let best: number | null = null;
  const visit = (i: number, size: number, cost: number): void => {
    if (size > budget) return;
    if (i === matrices.length) best = best === null ? cost : Math.min(best, cost);
    else for (const choice of matrices[i]!) visit(i + 1, size + choice.size, cost + choice.cost);
  };
  visit(0, 0, 0);
  return best;
}

t.test('finds what trying everything finds', async (t) => {
  const next = randomIntegers(7);
  for (let round = 0; round < 300; round++) {
    const matrices = Array.from({ length: 1 + next(6) }, () =>
      Array.from({ length: 1 + next(5) }, () => ({ size: next(40), cost: next(5) === 0 ? 0 : next(1000) / 7 })),
    );
    const budget = next(150);
    const wanted = tryAll(matrices, budget);
    const chosen = allocateWidths(matrices, budget);
    if (wanted === null) {
      t.equal(chosen, null);
    } else {
      t.ok(total(matrices, chosen!, 'size') <= budget);
      t.ok(Math.abs(total(matrices, chosen!, 'cost') - wanted) <= 1e-9 * (1 + wanted), `round ${round}`);
    }
  }
});

t.test('a model of 280 matrices of 4 shapes in a moment, and no worse than any price per byte', async (t) => {
  const next = randomIntegers(3);
  const matrices = Array.from({ length: 280 }, (_, i) => {
    const [weights, weight] = [[41472, 13824, 110592, 110593][i % 4]!, next(10_000) + 1];
    return [1, 2, 3, 4, 5].map((planes) => ({ size: planes * weights, cost: weight * (0.26 + next(100) / 2000) ** planes }));
  });
  const budget = 2.5 * matrices.reduce((sum, choices) => sum + choices[0]!.size, 0);
  const cost = total(matrices, allocateWidths(matrices, budget)!, 'cost');
  for (let price = 1e-8; price < 1; price *= 1.3) {
    const chosen = matrices.map((choices) => {
      const values = choices.map((choice) => choice.cost + price * choice.size);
      return values.indexOf(Math.min(...values));
    });
    if (total(matrices, chosen, 'size') <= budget) t.ok(cost <= total(matrices, chosen, 'cost'));
  }
});
