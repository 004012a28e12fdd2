package esme

import "strings"

// Texts as enterprises send them. {ref} makes each unique; {name}, {time},
// {day}, {n} and {amount} are filled in. Only the one-time codes carry a code.

var gsmTexts = []string{
	"Hi {name}, your appointment is on {day} at {time}. Reply STOP to cancel. Ref {ref}",
	"Your parcel {ref} is on its way and arrives {day} between {time} and 18:00.",
	"Dear {name}, invoice {ref} over £{amount} is due on {day}. Thank you!",
	"{name}: are we still on for {time}? See you at the station :) ({ref})",
	"Table for {n} booked, {day} {time}. Booking {ref}. See you soon, {name}!",
	"Ciao {name}, il tuo ordine {ref} è pronto: ritiralo {day} alle {time}. A presto!",
	"Hej {name}! Din tid är {day} kl. {time}. Avboka senast dagen innan. Ref {ref}",
	"Hei {name}, pakken {ref} kan hentes fra {day}. Åpent til {time}. Ha en fin dag!",
	"Train {ref} to Manchester: platform {n}, departs {time}. Have a good journey.",
}

var gsmExtTexts = []string{
	"Hallo {name}, Rechnung [{ref}]: {amount} € bis {day}. Grüße!",
	"Price drop: {amount}€ ~ {n} pieces left {on {day}}. Item [{ref}] | see you",
	"Factura {ref}: {amount} € pagada el {day}. ¡Gracias, {name}! [recibo]",
	"Log C:\\backup\\{ref} done at {time}, {n} files ^ checked | all well",
}

var latin1Texts = []string{
	"Bonjour {name}, votre rendez-vous du {day} à {time} est confirmé. Réf {ref}. À bientôt, ça ira !",
	"Votre colis {ref} sera livré {day} avant {time}. Merci d'être là, où que vous soyez, même à l'hôtel.",
	"Guten Tag {name}, Ihre Bestellung {ref} ist fertig. Abholung {day} ab {time} Uhr, schönes Wochenende!",
	"Hola {name}, su cita será el {day} a las {time}. ¿Dudas? Llámenos mañana. Nº {ref}. ½ hora antes, por favor.",
}

var ucs2Texts = []string{
	"Здравствуйте, {name}! Ваша запись {day} в {time}. № {ref}",
	"Ваша посылка {ref} прибудет {day} до {time}.",
	"Γεια σας {name}, το ραντεβού σας: {day} {time}. Κωδ. {ref}",
	"مرحبا {name}، موعدك {day} الساعة {time}. رقم {ref}",
	"طردك {ref} يصل {day} قبل {time}.",
	"नमस्ते {name}, आपका पार्सल {ref} {day} को {time} तक आएगा।",
	"您好{name},您的包裹{ref}将于{day} {time}前送达。",
	"{name}様、ご予約は{day} {time}です。番号{ref}",
	"안녕하세요 {name}님, 예약 {day} {time} 확인. 번호 {ref}",
	"שלום {name}, התור שלך ב-{day} בשעה {time}. מס' {ref}",
	"Dzień dobry {name}, paczka {ref} będzie {day} o {time}.",
}

var emojiTexts = []string{
	"🎉 {name}, see you {day} at {time}! 🥳 {ref}",
	"📦 Your parcel {ref} arrives {day} 🚚 by {time} 👍",
	"👩‍⚕️ Dr Silva: {day} {time} ✅ {ref} 🇵🇹",
	"С днём рождения, {name}! 🎂🎈 {ref}",
}

var otpTexts = []string{
	"{n}{n}{n}91{n} is your one-time code for {ref}. Do not share it with anyone.",
	"Your verification code is 4{n}8{n}7{n}. It is valid for 5 minutes. {ref}",
}

var longTexts = []string{
	"Dear {name}, thank you for your order {ref}. It holds {n} items, was packed this morning and leaves our warehouse on {day}. " +
		"You can change the place of delivery until {time} in the app or on our website, free of charge, as often as you like. ",
	"Уважаемый {name}, благодарим за заказ {ref}. Он будет доставлен {day} до {time}. Изменить адрес можно в личном кабинете бесплатно. ",
	"Liebe(r) {name}, hier die Einzelheiten zu Ihrer Reise {ref}: Abfahrt {day} um {time}, Gleis {n}. Bitte seien Sie rechtzeitig da. ",
}

var (
	names    = []string{"Anna", "Ben", "Chloe", "David", "Elena", "Femi", "Grace", "Hassan", "Ines", "Jakub", "Kira", "Liam", "Mei", "Noor"}
	days     = []string{"02/03", "11/04", "17/05", "23/06", "30/09", "14/10", "05/11", "19/12"}
	times    = []string{"08:15", "09:30", "10:45", "11:20", "13:00", "14:40", "15:55", "16:10", "17:25"}
	amounts  = []string{"12.50", "7.99", "129.00", "48.20", "1,250.75", "19.90"}
	kinds    = []string{"gsm", "gsm-ext", "latin1", "ucs2", "emoji", "payload", "long", "otp"}
	corpora  = map[string][]string{"gsm": gsmTexts, "gsm-ext": gsmExtTexts, "latin1": latin1Texts, "ucs2": ucs2Texts, "emoji": emojiTexts, "payload": longTexts, "long": longTexts, "otp": otpTexts}
	senders  = []string{"CHAT", "Parcel24", "DrSilva", "Rail", "447700800001", "88222"}
	mixStart = "gsm=45,gsm-ext=10,latin1=10,ucs2=20,emoji=5,payload=5,long=5"
)

// Fragments are what every text of the corpora is made of, between the places
// that are filled in: whoever finds one of them has found a text.
func Fragments() (all []string) {
	for _, texts := range corpora {
		for _, text := range texts {
			for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == '{' || r == '}' }) {
				if len(f) >= 12 {
					all = append(all, strings.TrimSpace(f))
				}
			}
		}
	}
	return all
}
