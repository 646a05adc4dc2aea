// Which modules of a kernel are loaded for what, and in which order: from modules.dep and modules.builtin (depmod(8),
// modules.dep(5)). Pure.

/** Path below the folder of the kernel's modules, and names of the modules that have to be there before it. */
export interface Module {
  readonly path: string;
  readonly needs: readonly string[];
}

/** The name by which modules are asked for: the file's, without its ends, where "-" and "_" are the same. */
export function moduleName(path: string): string {
  return path
    .replace(/^.*\//, '')
    .replace(/\.ko(?:\.\w+)?$/, '')
    .replaceAll('-', '_');
}

/** Modules by their names, of the text of modules.dep. */
export function parseDependencies(text: string): Map<string, Module> {
  const modules = new Map<string, Module>();
  for (const line of text.split('\n')) {
    const [path, needs] = line.split(':');
    if (needs === undefined) continue;
    const names = needs.split(' ').filter((word) => word !== '');
    modules.set(moduleName(path), { path, needs: names.map(moduleName) });
  }
  return modules;
}

/**
 * Paths of the modules that `names` need, each after those that it needs itself, and once. What is `builtin` (the text
 * of modules.builtin) is left out. Throws an Error that names a module which the kernel does not have.
 */
export function loadOrder(
  modules: ReadonlyMap<string, Module>,
  builtin: string,
  names: readonly string[],
): string[] {
  const done = new Set(builtin.split('\n').map(moduleName));
  const paths: string[] = [];
  const visit = (name: string): void => {
    if (done.has(name)) return;
    done.add(name);
    const module = modules.get(name);
    if (module === undefined) throw new Error(`the kernel has no module ${name}`);
    module.needs.forEach(visit);
    paths.push(module.path);
  };
  names.map(moduleName).forEach(visit);
  return paths;
}
