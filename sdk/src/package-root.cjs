// The folder that holds package.json, seen from dist/cjs. See package-root.js.
const { dirname } = require('node:path');

exports.packageRoot = dirname(dirname(__dirname));
