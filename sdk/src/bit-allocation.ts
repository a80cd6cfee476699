/**
 * Which width each matrix gets: the integer program of ShiftAddLLM (arXiv 2406.05981, section 4.3), solved exactly.
 *
 *   minimise sum of cost[i][choice i]  subject to  sum of size[i][choice i] <= budget
 */

/** One width of a matrix: what it takes (bytes, or bits) and what it costs the model (for example KL divergence). */
export interface WidthChoice {
  size: number;
  cost: number;
}

/** With more undominated sums than this (sizes of models come from few shapes) the best price's choices must do. */
const mostStates = 200_000;

interface State {
  size: number;
  cost: number;
  choice: number;
  before: State | null;
}

/**
 * The index of the best choice for every matrix, or null when not even the smallest fit. Optimal to rounding: a list of undominated partial sums, cut by the Lagrangian bound.
 */
export function allocateWidths(matrices: readonly (readonly WidthChoice[])[], budget: number): number[] | null {
  const smallest = matrices.reduce((sum, choices) => sum + Math.min(...choices.map(({ size }) => size)), 0);
  if (smallest > budget) return null;
  const { price, best, choices: incumbent } = bestPrice(matrices, budget);
  // rest[i]: the least cost + price * size that the matrices from i on can add.
  const rest: number[] = [0];
  const restSize: number[] = [0];
  for (let i = matrices.length - 1; i >= 0; i--) {
    rest.unshift(rest[0]! + Math.min(...matrices[i]!.map(({ size, cost }) => cost + price * size)));
    restSize.unshift(restSize[0]! + Math.min(...matrices[i]!.map(({ size }) => size)));
  }
  const limit = best + 1e-12 * (Math.abs(best) + price * budget); // of the terms that are compared
  let states: State[] = [{ size: 0, cost: 0, choice: -1, before: null }];
  for (const [i, choices] of matrices.entries()) {
    const next: State[] = [];
    for (const before of states) {
      for (const [choice, { size, cost }] of choices.entries()) {
        const state = { size: before.size + size, cost: before.cost + cost, choice, before };
        if (state.size + restSize[i + 1]! > budget) continue;
        if (state.cost + rest[i + 1]! - price * (budget - state.size) > limit) continue;
        next.push(state);
      }
    }
    states = undominated(next);
    if (states.length > mostStates) return incumbent;
  }
  if (states.length === 0) return incumbent;
  const chosen: number[] = [];
  for (let state = states.at(-1)!; state.before !== null; state = state.before) chosen.unshift(state.choice);
  return chosen;
}

/** By growing size, strictly falling cost. */
function undominated(states: State[]): State[] {
  states.sort((a, b) => a.size - b.size || a.cost - b.cost);
  const kept: State[] = [];
  for (const state of states) if (kept.length === 0 || state.cost < kept.at(-1)!.cost) kept.push(state);
  return kept;
}

/**
 * A price per unit of size (the Lagrange multiplier) close to the best, and the cost of the best allocation that any
 * price tried gave: an upper bound.
 */
function bestPrice(
  matrices: readonly (readonly WidthChoice[])[],
  budget: number,
): { price: number; best: number; choices: number[] } {
  const at = (price: number): WidthChoice & { choices: number[] } => {
    const sum = { size: 0, cost: 0, choices: [] as number[] };
    for (const options of matrices) {
      let best = 0;
      for (const [index, { size, cost }] of options.entries()) {
        const difference = cost + price * size - (options[best]!.cost + price * options[best]!.size);
        if (difference < 0 || (difference === 0 && size < options[best]!.size)) best = index;
      }
      sum.size += options[best]!.size;
      sum.cost += options[best]!.cost;
      sum.choices.push(best);
    }
    return sum;
  };
  let [low, high] = [0, 1e-12];
  let best = at(0);
  if (best.size <= budget) return { price: 0, best: best.cost, choices: best.choices };
  while ((best = at(high)).size > budget && high < 1e300) high *= 4;
  for (let round = 0; round < 200; round++) {
    const price = (low + high) / 2;
    const tried = at(price);
    if (tried.size > budget) low = price;
    else {
      high = price;
      if (tried.cost < best.cost) best = tried;
    }
  }
  return { price: high, best: best.cost, choices: best.choices };
}
