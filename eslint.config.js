import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    // The examples belong to a project of their own, that of whoever installs the package.
    ignores: ['dist', 'build', '.tap', 'node_modules', 'docs/examples'],
  },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ['eslint.config.js'] } } },
    rules: {
      // A promise nobody waits for is a failure nobody sees: in a daemon that is a lost lease.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      // An import has its line whatever its length; a URL cannot be broken.
      'max-len': ['error', { code: 120, ignoreUrls: true, ignorePattern: "^(import|export) .* from '" }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      // tap's t.test() returns a promise that tap itself awaits.
      'no-console': 'off',
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.test.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': 'off',
      'no-restricted-syntax': [
        'error',
        {
          selector: "CallExpression[callee.property.name='testdir']",
          message: 'folderOf(t) of test/support/folder.ts goes after what a test tears down, not before.',
        },
        {
          selector: 'CallExpression[callee.property.name=/^mock(Import|Require|All)$/]',
          message:
            "test/run.ts runs files without tap's loaders, where this mocks nothing: hand the fake in.",
        },
      ],
    },
  },
);
