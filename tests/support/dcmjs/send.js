// Sends the named Part 10 files by C-STORE after a C-ECHO; prints one status a line. dcmjs-dimse, nothing of ours.
const dimse = require('dcmjs-dimse');
const { Client } = dimse;
const { CEchoRequest, CStoreRequest } = dimse.requests;

dimse.log.level = 'error';
const [port, called, ...files] = process.argv.slice(2);
const client = new Client();
const echo = new CEchoRequest();
echo.on('response', (answer) => console.log(`echo ${answer.getStatus()}`));
client.addRequest(echo);
for (const file of files) {
  const store = new CStoreRequest(file);
  store.on('response', (answer) => console.log(`store ${answer.getStatus()}`));
  client.addRequest(store);
}
client.on('networkError', (error) => {
  console.error(String(error));
  process.exit(1);
});
client.send('127.0.0.1', Number(port), 'SCU', called);
