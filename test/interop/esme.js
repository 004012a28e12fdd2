// An ESME on npm's smpp. Each line of stdin is a request in JSON: {n, command,
// options} in the words of npm's smpp, or {n, raw}, whole octets but for the
// sequence_number. It tells what came back, and unbinds when stdin ends.
// Usage: node esme.js HOST:PORT
'use strict';
const readline = require('readline');
const { smpp, octets, say, text } = require('./wire');

const [host, port] = process.argv[2].split(':');
const session = smpp.connect({ host, port: Number(port) });

session.on('error', (e) => { say({ event: 'error', error: String(e) }); process.exit(1); });
session.on('enquire_link', (pdu) => session.send(pdu.response()));
session.on('deliver_sm', (pdu) => {
  session.send(pdu.response());
  const channel = pdu[0x1580];
  say({
    event: 'receipt', raw: pdu.raw, esm_class: pdu.esm_class, text: text(pdu), from: pdu.source_addr,
    id: pdu.receipted_message_id, state: pdu.message_state, channel: channel ? channel.toString('ascii') : '',
  });
});

session.on('connect', () => {
  session.bind_transceiver({ system_id: 'node', password: 'secret', interface_version: 0x34 }, (resp) => {
    say({ event: 'bound', status: resp.command_status, version: resp.sc_interface_version });
  });
});

// A user data header comes in hexadecimal.
function request({ command, options, raw }) {
  if (raw) return octets(Buffer.from(raw, 'hex'), false);
  const m = options.short_message;
  if (m && m.udh) m.udh = Buffer.from(m.udh, 'hex');
  return new smpp.PDU(command, options);
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const asked = JSON.parse(line);
  const pdu = request(asked);
  session.send(pdu, (answer) => say({
    event: 'answer', n: asked.n, raw: pdu.raw, back: answer.raw, status: answer.command_status, id: answer.message_id,
  }));
});
lines.on('close', () => {
  session.unbind((resp) => {
    say({ event: 'unbound', status: resp.command_status });
    session.close(() => process.exit(0));
  });
});
