// Validates the objects that come in as JSON; prints what is wrong with each, or nothing.
// The validators let unknown fields pass, where a cluster would drop them without a word. So we look at what a
// validator reads: a field that it never asks for is none that the kind has.

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
  "postgresql.cnpg.io": "cloudnative-pg",
};

function watched(value, path, read) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "string" && !Array.isArray(target)) read.add(`${path}.${key}`);
      return watched(target[key], Array.isArray(target) ? path : `${path}.${String(key)}`, read);
    },
    ownKeys(target) {
      Object.keys(target).forEach((key) => read.add(`${path}.${key}`)); // a map: any key will do
      return Reflect.ownKeys(target);
    },
  });
}

function* unread(value, path, read) {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    const here = Array.isArray(value) ? path : `${path}.${key}`;
    if (!Array.isArray(value) && !read.has(here)) yield `unknown field ${here}`;
    else yield* unread(inner, here, read);
  }
}

async function faults({ apiVersion, kind, spec, metadata }) {
  const [group, version] = apiVersion.split("/");
  const module = `@kubernetes-models/${PACKAGES[group]}/${group}/${version}/${kind}`;
  const { [kind]: Model } = await import(module);
  const read = new Set();
  const model = new Model({ apiVersion, kind, metadata, spec });
  model.spec = watched(model.spec, "spec", read);
  try {
    model.validate();
  } catch (error) {
    return [error.message];
  }
  return [...unread(spec, "spec", read)];
}

let text = "";
for await (const piece of process.stdin) text += piece;
for (const object of JSON.parse(text)) {
  for (const fault of await faults(object)) {
    console.log(`${object.kind}/${object.metadata.name}: ${fault}`);
  }
}
