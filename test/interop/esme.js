// An ESME on npm's smpp: sends the messages of a JSON file and tells what came
// back. Usage: node esme.js HOST:PORT FILE
'use strict';
const fs = require('fs');
const { smpp, say, text, untilStdinEnds } = require('./wire');

const [host, port] = process.argv[2].split(':');
const messages = JSON.parse(fs.readFileSync(process.argv[3], 'utf8'));
const session = smpp.connect({ host, port: Number(port) });

session.on('error', (e) => { say({ event: 'error', error: String(e) }); process.exit(1); });
session.on('enquire_link', (pdu) => session.send(pdu.response()));
session.on('deliver_sm', (pdu) => {
  session.send(pdu.response());
  const channel = pdu[0x1580];
  say({
    event: 'receipt', raw: pdu.raw, esm_class: pdu.esm_class, text: text(pdu),
    id: pdu.receipted_message_id, state: pdu.message_state, channel: channel ? channel.toString('ascii') : '',
  });
});

session.on('connect', () => {
  session.bind_transceiver({ system_id: 'node', password: 'secret', interface_version: 0x34 }, (resp) => {
    say({ event: 'bound', status: resp.command_status, version: resp.sc_interface_version });
    if (resp.command_status) return;
    messages.forEach((m, n) => {
      const options = Object.assign({
        source_addr_ton: 5, source_addr: 'NODE', dest_addr_ton: 1, dest_addr_npi: 1, registered_delivery: 1,
      }, m);
      if (m.short_message && m.short_message.udh) {
        options.short_message = { udh: Buffer.from(m.short_message.udh, 'hex'), message: m.short_message.message };
      }
      const pdu = new smpp.PDU('submit_sm', options);
      session.send(pdu, (answer) => say({
        event: 'answer', n, raw: pdu.raw, status: answer.command_status, id: answer.message_id,
      }));
    });
  });
});

untilStdinEnds(() => {
  session.unbind((resp) => {
    say({ event: 'unbound', status: resp.command_status });
    session.close(() => process.exit(0));
  });
});
