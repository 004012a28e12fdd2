package route

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// wordKind says what a word means for the numbers around it.
type wordKind uint8

const (
	neutralWord wordKind = iota // hides a word of another kind inside of it
	strongWord                  // verification and one-time codes, nothing else
	weakWord                    // any code or password
	useWord                     // what a number just before it is for
	labelWord                   // names the number that follows, which is then no code
	offerWord                   // advertising: its weak words are about discounts
)

// otpWords are folded as the text is: lower case, no accents. A "*" at an end
// lets a word go on there. A longer word hides the shorter ones in it.
var otpWords = [...]string{
	neutralWord: `
		barcode bar_code postcode post_code postal_code zipcode zip_code area_code country_code qrcode qr_code
		source_code dress_code sort_code swift_code error_code gift_code tracking_code booking_code
		reservation_code reference_code order_code product_code item_code code_postal code_barre* code_source
		promocode promo_code codigo_postal codigo_de_barras codigo_de_seguimiento codigo_de_reserva
		codigo_de_rastreio codice_fiscale codice_postale codice_a_barre codice_prenotazione
		kod_pocztowy kod_kreskowy posta_kodu kode_pos kode_booking postleitzahl buchungscode strichcode
		buchungskode kodak* codec* decode* encode* codeine* kodeks* pin_code pincode pinned pinterest
		*кодекс* *код_города* *почтовы* 邮政编码 *郵便番号* *우편번호* codeword*`,
	strongWord: `
		verif* otp otps otp-* one-time one_time onetime passcode* pass_code two-factor two_factor authenticat*
		security_code access_code login_code log-in_code sign-in_code signin_code activation_code confirmation_code
		authorization_code authorisation_code mtan tan smstan sms-tan einmal* *sicherheitscode*
		*bestatigungscode* *freischaltcode* *aktivierungscode* *zugangscode* *anmeldecode* prufcode
		usage_unique code_de_securite code_d'acces code_de_confirmation code_d'activation code_de_connexion
		authentifi* autentic* autenti* codigo_de_seguridad codigo_de_acceso codigo_de_confirmacion codigo_de_seguranca
		codigo_de_acesso codigo_de_confirmacao codigo_de_ativacao codigo_de_activacion uso_unico un_solo_uso
		codice_di_sicurezza codice_di_conferma codice_di_accesso codice_di_attivazione monouso usa_e_getta
		eenmalig* bevestigingscode* beveiligingscode* toegangscode* inlogcode* activeringscode* weryfikac*
		jednorazow* autoryzac* kod_potwierdz* kod_sms *dogrulama* tek_kullanimlik onay_kod* guvenlik_kod*
		engangs* verifierings* bekraftelsekod* *vahvistuskoodi* overovaci* jednorazov* egyszeri_jelszo ellenorzo_kod*
		cod_de_verific* cod_unic xac_minh* ma_xac* ma_otp kode_keamanan kode_konfirmasi sekali_pakai
		*подтвержден* *підтвердж* *одноразов* *верифик* *верифік* *проверочн* *код_доступ* *код_безопас*
		*επαλήθευσ* *επαληθευσ* *επιβεβαίωσ* *אימות* *חד_פעמי* *التحقق* *تحقق* *التفعيل*
		*رمز_التأكيد* *کد_تایید* *تایید* *تصدیقی* *सत्यापन* *ओटीपी* *वेरिफिकेशन* *ওটিপি* *যাচাই* *ஓடிபி*
		*ยืนยัน* *验证码* *驗證碼* *验证代码* *校验码* *校驗碼* *动态码* *动态密码* *動態密碼* *确认码* *確認碼* *激活码* *一次性*
		*認証* *確認コード* *確認番号* *ワンタイム* *セキュリティコード* *인증* *일회용* *보안코드* *확인코드* *확인_코드*`,
	weakWord: `
		*code* pin pins pin-* password* pass-word kennwort* passwort* passord* losenord* *kode* *kod* koodi*
		codigo* codice* codul cod_sms parola* parol mot_de_passe motdepasse contrasena* clave senha* palavra-passe
		wachtwoord* haslo* sifre* heslo* jelszo* salasana* kata_sandi sandi geheimzahl geheimnummer code-pin
		*код* *пароль* *пароля* *паролем* *пін* *пин-код* *пін-код* *κωδικ* *קוד* *סיסמ* *رمز* *كود* *کد* *کوڈ*
		*كلمة_المرور* *كلمة_السر* *पासवर्ड* *कोड* *पिन* *কোড* *குறியீடு* *รหัส*
		*密码* *密碼* *代码* *口令* *コード* *パスワード* *暗証番号* *비밀번호* *코드* *암호* mat_khau`,
	useWord: `
		to_log_in to_login to_log_into to_sign_in to_confirm to_continue as_your to_access zum_anmelden
		pour_vous_connecter pour_confirmer para_iniciar para_entrar para_confirmar per_accedere per_confermare
		om_in_te_loggen aby_sie_zalogowac giris_icin *для_входа* *для_входу* untuk_masuk
		*لتسجيل_الدخول* *登录* *登入* *ログイン* *로그인*`,
	labelWord: `
		order orders ordernr ref ref. reference referenz invoice ticket case tracking parcel package shipment flight
		booking reservation account acct a/c ac card ending ends no nr phone tel telephone mobile fax
		call dial text txt reply stop send balance amount total price room gate suite bus train
		zip pincode pin_code postcode zipcode zip_code po_box since until year years policy claim
		bill customer member membership model serial vin docket incident confirmation_number reference_number
		complaint request_id txn transaction utr rrn id kundennummer kundennr
		commande facture colis suivi appelez composez solde montant dossier vol
		bestellung bestellnummer bestell-nr auftrag auftragsnummer rechnung rechnungsnummer rechnungsnr sendung
		sendungsnummer paket konto kontonummer vorgang ticketnummer anruf rufen plz zimmer karte
		pedido factura saldo envio guia cuenta llame llama tarjeta expediente vuelo reserva fatura encomenda
		conta ligue cartao protocolo ordine fattura spedizione conto chiama carta volo prenotazione pratica
		bestelling bestelnummer factuur factuurnummer pakket zending rekening bel kaart klantnummer
		zamowienie zamowienia zamowieniu zamowien* faktura faktury przesylk* paczk* konta karta zadzwon
		siparis* fatura* kargo* hesap* arayin bakiye* pesanan resi tagihan pulsa hubungi
		*заказ* *счет* *счёт* *посылк* *рахунок* *рахунк* *замовлення* *відправлення* *накладн* *договор* *телефон* *карт* *рейс*
		*баланс* *звоните* *дзвоніть* *рейсі* *طلبك* *الطلب* *طلب* *فاتور* *شحنة* *الشحنة* *حسابك* *رصيدك* *اتصل*
		*ऑर्डर* *खाता* *खाते* *बिल* *订单* *訂單* *快递* *单号* *單號* *尾号* *卡号* *电话* *致电* *注文* *伝票* *電話* *ご予約*
		*주문* *운송장* *송장* *전화* *예약* *계좌* *카드`,
	offerWord: `
		%_off discount* promo promos promotion* promotional coupon* voucher* sale sales rabatt* gutschein* aktionscode*
		korting* soldes remise* reduction* descuento* desconto* cupom cupon* sconto* offerta offerte znizk* rabat* promocj*
		indirim* kampanya* diskon* *скидк* *промокод* *акци* *знижк* *خصم* *छूट* *优惠* *折扣* *割引* *クーポン* *할인* *쿠폰*
		checkout cashback vip_sale cyber_monday black_friday`,
}

// What amount looks for beside a number.
var (
	currencies = []string{
		"$", "€", "£", "¥", "₹", "₽", "₺", "₩", "₴", "₪", "₫", "฿", "rs", "inr", "usd", "eur", "gbp", "pln", "try", "uah",
		"rub", "idr", "rp", "brl", "jpy", "cny", "krw", "aed", "sar", "chf", "sek", "nok", "dkk", "czk", "huf", "ron",
		"euro", "euros", "dollars", "pounds", "zl", "tl", "kr", "kc", "ft", "lei", "грн", "руб", "р", "元", "円", "원", "د.إ", "ريال", "रु",
	}
	units = []string{
		"points", "point", "pts", "punkte", "puntos", "pontos", "punti", "punkt", "mb", "gb", "km", "kg", "kwh", "steps", "miles",
		"hrs", "hours", "hour", "uhr", "am", "pm", "min", "mins", "minutes", "days", "day", "sms", "people", "баллов", "балів",
		"積分", "积分", "ポイント", "포인트", "年", "년", "नंबर पर", "号线",
	}
)

// linkWords may stand between a label and its number, toWords send to it.
var (
	linkWords = strings.Fields(`no nr n num number nummer numero numer id is ist est es e of in was with us on at our the
		is: de du der die das der von mit dem den la le el il lo lautet jest to your nomor numaraniz numarasi
		№ номер номером номеру под по за на رقم رقمه हे है नंबर संख्या 号 號 は 番号 번호 free`)
	toWords = strings.Fields("to an au al alla ao do aan pod na на за ke kepada")
)

type stem struct {
	text       string
	kind       wordKind
	onLeft, on bool // it may go on to the left, to the right
}

// stems are otpWords by their first two octets, the longest first.
var stems = func() (t [1024][]stem) {
	for kind, words := range otpWords {
		for w := range strings.FieldsSeq(words) {
			text := strings.ReplaceAll(strings.Trim(w, "*"), "_", " ")
			k := stemKey(text[0], text[1])
			t[k] = append(t[k], stem{text, wordKind(kind), w[0] == '*', w[len(w)-1] == '*'})
		}
	}
	for _, list := range t {
		slices.SortStableFunc(list, func(a, b stem) int { return cmp.Compare(len(b.text), len(a.text)) })
	}
	return t
}()

func stemKey(a, b byte) int { return (int(a)*31 + int(b)) & 1023 }

// stemAt is the longest stem at i, nil without one. A word of Latin letters
// ends where those do, so that particles of other scripts may touch it.
func stemAt(b []byte, i int) *stem {
	if i+1 == len(b) {
		return nil
	}
	list := stems[stemKey(b[i], b[i+1])]
	same := isLatin
	if b[i] >= 0x80 {
		same = beyondASCII
	}
	inWord := i > 0 && same(b[i-1])
	for k := range list {
		s := &list[k]
		if inWord && !s.onLeft || len(s.text) > len(b)-i || !bytes.HasPrefix(b[i:], []byte(s.text)) {
			continue
		}
		if end := i + len(s.text); s.on || end == len(b) || !same(b[end]) {
			return s
		}
	}
	return nil
}

func isLatin(c byte) bool { return c >= 'a' && c <= 'z' }

func beyondASCII(c byte) bool { return c >= 0x80 }
