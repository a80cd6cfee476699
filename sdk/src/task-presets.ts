/** The eight tasks of ShiftAddLLM's tables, with the prompts of lm-evaluation-harness, and the items that each expects. */

export interface TaskPreset {
  /** Around the query of an item, for `TaskOptions.template`. */
  template: string;
  /** Of every item; null where it differs. */
  choices: number | null;
  /** What the file holds: which set, and how its fields become `query` and `choices`. */
  expects: string;
}

const question = 'Question: {query}\nAnswer:';
const passage = '{query}\nAnswer:';
const continuation = '{query}';

/** Prompts of known tasks, by the name that `--tasks` takes. */
export const taskPresets: Readonly<Record<string, TaskPreset>> = {
  'arc-easy': { template: question, choices: null, expects: 'the test set of ARC-Easy; query: the question, choices: the answers' },
  'arc-challenge': { template: question, choices: null, expects: 'the test set of ARC-Challenge; query: the question, choices: the answers' },
  boolq: {
    template: passage,
    choices: 2,
    expects: 'the validation set of BoolQ; query: "<passage>\\nQuestion: <question>?", choices: ["no", "yes"]',
  },
  copa: {
    template: continuation,
    choices: 2,
    expects: 'the validation set of COPA; query: the premise without its last full stop and " because" or " therefore", choices: both with a small first letter',
  },
  piqa: { template: question, choices: 2, expects: 'the validation set of PIQA; query: the goal, choices: both solutions' },
  rte: {
    template: passage,
    choices: 2,
    expects: 'the validation set of RTE; query: "<premise>\\nQuestion: <hypothesis> True or False?", choices: ["True", "False"]',
  },
  storycloze: { template: continuation, choices: 2, expects: 'the 2016 validation set of StoryCloze; query: the four sentences, choices: both endings' },
  mmlu: {
    template: passage,
    choices: 4,
    expects:
      'the test sets of MMLU; query: "The following are multiple choice questions (with answers) about <subject>.\\n\\n<question>\\nA. ...\\nB. ...\\nC. ...\\nD. ...", choices: ["A", "B", "C", "D"]',
  },
};
