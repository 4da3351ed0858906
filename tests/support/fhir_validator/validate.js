// One line of JSON for each file named: {"valid": …, "messages": […]} of npm's fhir (FHIR R4 4.0, no profiles).
const fs = require("fs");
const { Fhir } = require("fhir");

const validator = new Fhir();
for (const name of process.argv.slice(2)) {
  const result = validator.validate(JSON.parse(fs.readFileSync(name, "utf8")), { errorOnUnexpected: true });
  console.log(JSON.stringify({ valid: result.valid, messages: result.messages }));
}
