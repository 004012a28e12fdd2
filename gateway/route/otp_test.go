package route

import (
	"strings"
	"testing"
)

var oneTimeCodes = []string{
	// English
	"Your verification code is 123456",
	"123456 is your Facebook confirmation code",
	"G-123456 is your Google verification code.",
	"FB-12345 is your Facebook confirmation code",
	"<#> 482913 is your Example code. FA+9qCX9VSu",
	"<#> Your ExampleApp number: 7741\nFA+9qCX9VSu",
	"Your Uber code is 4821. Never share this code.",
	"WhatsApp code: 123-456. Don't share this code with others",
	"Your WhatsApp code: 123 456\n\nYou can also tap this link: v.whatsapp.com/123456",
	"Use 482913 as your login code for Tinder. Do not share it with anyone.",
	"Use 482913 to log in to your account.",
	"OTP is 482913 for txn of INR 4500.00 at AMAZON on card ending 1234. Do not share OTP. -HDFC Bank",
	"849201 is the OTP for your transaction of Rs 2,499 at FLIPKART. Valid for 10 mins.",
	"Your one-time passcode is 77120394. It expires in 10 minutes.",
	"[Steam] Your access code: 48291",
	"PIN: 4821",
	"Your Apple ID Code is: 123456. Don't share it with anyone.",
	"Example Bank: enter 392817 to confirm your payment of GBP 50.00 to J Smith",
	"Your code for order 12345 is 998877",
	"Your security code is 2024",
	"Code 482913 10 min valid",
	"Your password reset code: 0042",
	"Signal: your code is\n482913\nDo not share",
	"482913",
	"https://example.com/login\nYour Example code is 747723.\n\n@example.com #747723",
	"@example.com #747723 %ecommerce.example",
	"Ihr Paket ist da\n@shop.example.com #a1b2c3",
	"ＯＴＰ：４８２９１３",
	"Your T-Mobile temporary password is 8812",
	"Dear Customer, 482913 is SECRET OTP for a txn of INR 2500.00 on card XX1234",
	"DO NOT SHARE: OTP for Aadhaar (XX1234) is 482913 (valid for 10 mins)",
	"Login OTP for your account 12345678 is 482913",
	"Amazon: Sign-in attempt from CA. Deny: amazon.example/a/c/r/xyz. Your OTP: 482913",
	"Enter 482913 in the app to verify your phone number.",
	"Operacja nr 5 z dn. 12-05-2025 na rach. ...1234 kwota 150,00 PLN haslo: 48291345",
	"Garanti: 1.500,00 TL tutarlı işleminiz için şifreniz: 482913",
	"Uw DigiD sms-code is: 482913",
	// French
	"Votre code de vérification est 482913",
	"482913 est votre code de confirmation Instagram",
	"Code de sécurité à usage unique : 482 913. Ne le communiquez à personne.",
	"Votre mot de passe temporaire : 55102938",
	// German
	"Ihr Bestätigungscode lautet: 482913",
	"Ihre TAN für die Überweisung über 150,00 EUR: 482913",
	"482913 ist Ihr Amazon-Einmalpasswort (OTP). Teilen Sie es mit niemandem.",
	"mTAN 482913 für Ihren Auftrag vom 12.05.2025",
	// Spanish, Portuguese, Italian, Romanian
	"Tu código de verificación es 482913",
	"482913 es tu codigo de WhatsApp. No lo compartas",
	"Su clave dinámica es 482913. Banco Ejemplo",
	"Seu código de verificação é 482913",
	"Sua senha temporária: 482913. Não compartilhe.",
	"Il tuo codice di verifica è 482913",
	"Codice OTP 482913 per autorizzare il pagamento di EUR 35,00",
	"Codul tău de verificare este 482913",
	// Dutch, Scandinavian, Finnish
	"Je verificatiecode is 482913. Deel deze code met niemand.",
	"Uw eenmalige wachtwoord: 482913",
	"Din verifieringskod är 482913",
	"Din engangskode er 482913",
	"Vahvistuskoodisi on 482913",
	// Polish, Czech, Hungarian
	"Twój kod weryfikacyjny to 482913",
	"Haslo jednorazowe nr 3 z dn. 12-05-2025: 482913 Przelew 150,00 PLN",
	"Váš ověřovací kód je 482913",
	"Az Ön ellenőrző kódja: 482913",
	// Turkish
	"Doğrulama kodunuz: 482913. Kimseyle paylaşmayın.",
	"İşlem şifreniz 482913'dir. B001",
	// Russian, Ukrainian, Greek, Hebrew
	"Ваш код подтверждения: 482913. Никому его не сообщайте",
	"482913 — код для входа в Telegram",
	"Пароль: 4829. Покупка 1500р MAGAZIN",
	"Ваш код підтвердження 482913",
	"Никому не говорите код 4829. Вход в Сбербанк",
	"Ο κωδικός επαλήθευσης είναι 482913",
	"קוד האימות שלך הוא 482913",
	// Arabic, Persian, Urdu, Hindi, Bengali
	"رمز التحقق الخاص بك هو 482913",
	"رمز التحقق: ٤٨٢٩١٣",
	"كود التفعيل 4829 لا تشاركه مع أحد",
	"کد تایید شما: ۴۸۲۹۱۳",
	"آپ کا تصدیقی کوڈ 482913 ہے",
	"आपका सत्यापन कोड 482913 है",
	"आपका ओटीपी ४८२९१३ है। किसी से साझा न करें।",
	"আপনার যাচাইকরণ কোড 482913",
	// Chinese, Japanese, Korean, Thai, Vietnamese, Indonesian
	"【微信】验证码482913，请在5分钟内使用，切勿告知他人。",
	"您的驗證碼為 482913",
	"动态密码：482913，工作人员不会索取。",
	"認証コード：482913（10分間有効）",
	"482913 があなたの確認コードです。",
	"[카카오] 인증번호 [482913]를 입력해주세요.",
	"인증번호는 482913입니다",
	"รหัส OTP ของคุณคือ 482913",
	"Mã xác thực của bạn là 482913",
	"Kode verifikasi Anda 482913. JANGAN BERIKAN kepada siapa pun.",
	"OTP Anda: 482913. Kode bersifat rahasia",
	"Kode OTP: 4829 berlaku 5 menit",
}

var otherMessages = []string{
	"",
	"Hello, how are you?",
	// orders, parcels, bookings
	"Your order 123456 has shipped",
	"Your order #123456 is confirmed. Thank you for shopping with us.",
	"Order no. 48291345 will arrive today between 10:00 and 12:00",
	"DHL: your parcel 48291345 is out for delivery",
	"Tracking number 48291345. Please verify your address at https://dhl.example/48291345",
	"Your booking reference is 482913. Flight BA 1234 departs 09:45.",
	"Ticket 482913 was closed. Reply YES to reopen.",
	"Ihre Bestellung 482913 wurde versandt",
	"Ihre Sendung 48291345 kommt heute zwischen 14:00 und 16:00 Uhr",
	"Ihre Rechnung Nr. 482913 über 1.250,00 EUR ist fällig",
	"Votre commande n° 482913 a été expédiée",
	"Votre colis 48291345 arrive demain",
	"Tu pedido 482913 ha sido enviado",
	"Seu pedido nº 482913 saiu para entrega",
	"Il tuo ordine 482913 è stato spedito",
	"Uw bestelling 482913 is onderweg",
	"Twoje zamówienie nr 482913 zostało wysłane",
	"Siparişiniz 482913 kargoya verildi",
	"Ваш заказ №482913 готов к выдаче",
	"Ваше замовлення 482913 відправлено",
	"تم شحن طلبك رقم 482913",
	"आपका ऑर्डर 482913 भेज दिया गया है",
	"您的订单482913已发货",
	"您的快递单号48291345已到达",
	"ご注文 482913 を発送しました",
	"주문번호 482913 배송이 시작되었습니다",
	"Pesanan 482913 sedang dikirim",
	// money and balances
	"Your account was debited by $4500 on 12/05/2025",
	"Rs 5000 debited from A/c XX1234 on 12-05-25. Never share your OTP or PIN. Call 18001234 if not you.",
	"Your balance is 1250. Top up now!",
	"Card ending 1234 was charged 4500 USD. Not you? Call 18005551",
	"Payment of EUR 1500 received",
	"Покупка 1500р. Баланс: 48291р.",
	"Списание 1500 руб. Карта *1234",
	"Kontostand: 1250 EUR",
	"您尾号1234的卡消费1500元",
	"お支払い金額は 4500円 です",
	"잔액은 15000원입니다",
	"İşleminiz tamamlandı: 1500 TL",
	"You have earned 2500 points",
	"You have used 1500 MB of your data",
	// phone numbers
	"Call us on 0800 123 456 for help",
	"Call me at +44 7700 900042",
	"Missed call from 5551234",
	"Text STOP to 40404 to opt out",
	"To stop receiving messages reply STOP to 12345. Msg rates apply.",
	"Never share your password. Questions? Call 08001234",
	"Звоните 88005553535 или 0890",
	// dates, times, years
	"Your appointment is on 12/05/2025 at 14:30",
	"Happy New Year 2025!",
	"Our password policy changes in 2026",
	"The code review moved to 12.05.2025",
	"Your PIN was changed on 12 May 2025. If this was not you, visit a branch.",
	"Votre rendez-vous est le 12/05/2025 à 14h30",
	"Ihr Termin: 12.05.2025, 1430 Uhr",
	"明天2025年5月12日见",
	// promotions and other codes
	"Use promo code 482913 at checkout for 20% off",
	"50% off everything! Enter code 20245 this weekend only",
	"Gutschein: Code 482913 einlösen und 10 EUR sparen",
	"Profitez de -20% avec le code promo 48291",
	"Скидка 20% по промокоду 48291",
	"Código de descuento 48291 válido hasta el domingo",
	"İndirim kodu 48291 ile %20 kazan",
	"使用优惠码48291享受8折优惠",
	"Delivery to pin code 560001 is available",
	"Please check the postcode 10115 of your address",
	"Le code postal 75001 est invalide",
	"Scan the barcode 48291345 at the gate",
	"The area code 0207 is changing",
	"Error code 5012: your printer needs attention",
	// others with digits
	"Room 1408 is ready for you",
	"Your SIM will be disconnected. Call 98765432 to verify KYC",
	"Dear customer your a/c 48291345 is credited with Rs.15000 on 12May25. Avl bal Rs.25000",
	"Dear parent, fees of 12500 are due by 15/06",
	"Your table for 4 is booked for 1930. Ref 482913",
	"Votre facture de 45,99 EUR du 12/05/2025 est disponible",
	"Twoja paczka 48291345 czeka. Kod odbioru otrzymasz osobno.",
	"Запись на 12.05 в 14:30, кабинет 1204",
	"Your password will expire in 10 days. Contact IT at ext 4512",
	"Black Friday: code 482913 = 30% off",
	"Gate 4512 has changed",
	"Win 10000 today!",
	"Meeting ID: 482913",
	"Your policy 48291345 renews next month",
	"123",
	"Your code is 123",
	"Your code is 123456789",
	"Model X12345 is in stock",
	"Your verification was successful.",
	"Please confirm your password at https://example.com/reset/48291345",
	"Visit www.example.com/code/482913 to read more",
	"Sie haben 2 neue Nachrichten auf Ihrer Mailbox, Rufnummer 3311",
	"The vote ended 1204 to 1187",
}

func TestOneTimeCode(t *testing.T) {
	for _, text := range oneTimeCodes {
		if !OneTimeCode(text) {
			t.Errorf("OneTimeCode(%q) = false, want true", text)
		}
	}
	for _, text := range otherMessages {
		if OneTimeCode(text) {
			t.Errorf("OneTimeCode(%q) = true, want false", text)
		}
	}
	if len(oneTimeCodes) < 60 || len(otherMessages) < 60 {
		t.Errorf("%d positive and %d negative examples, want 60 of each", len(oneTimeCodes), len(otherMessages))
	}
}

func TestOneTimeCodeAllocations(t *testing.T) {
	for _, text := range append(oneTimeCodes, otherMessages...) {
		if n := testing.AllocsPerRun(10, func() { OneTimeCode(text) }); n > 0 {
			t.Errorf("OneTimeCode(%q) allocates %v times, want 0", text, n)
		}
	}
	long := strings.Repeat("a long message without any code ", 60)
	if n := testing.AllocsPerRun(10, func() { OneTimeCode(long) }); n > 2 {
		t.Errorf("OneTimeCode of %d octets allocates %v times, want 2 at most", len(long), n)
	}
}

// TestFold: the table of accents against the characters that it stands for.
func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"ÀÉÎÕÜ çñß ØøÆæ":           "aeiou cns ooaa",
		"ŁłŞşĞğİıŐűČěŘŻ":           "llssggiioucerz",
		"٠٩ ۰۹ ०९ ০৯ ０９":           "09 09 09 09 09",
		"A\u200b\u200eB\u00a0C\tD": "ab c d",
		"e\u0301x：。（1）":            "ex:. (1)",
		"Привет – ПОКА":            "привет - пока",
	} {
		if got := string(fold(nil, in)); got != want {
			t.Errorf("fold(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzOneTimeCode: any text ends in a verdict, and letters of either case,
// where they mean the same, in the same one.
func FuzzOneTimeCode(f *testing.F) {
	for _, text := range append(oneTimeCodes, otherMessages...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		upper := []byte(text)
		for i, c := range upper {
			if c >= 'a' && c <= 'z' {
				upper[i] = c - 'a' + 'A'
			}
		}
		if got, want := OneTimeCode(string(upper)), OneTimeCode(text); got != want {
			t.Errorf("OneTimeCode(%q) = %t, but of %q %t", upper, got, text, want)
		}
	})
}

func BenchmarkOneTimeCode(b *testing.B) {
	for _, text := range []string{oneTimeCodes[0], otherMessages[2], strings.Repeat("Hello, how are you doing? ", 6), strings.Repeat("Привет, как дела? ", 9)} {
		b.Run(text[:12], func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				OneTimeCode(text)
			}
		})
	}
}
