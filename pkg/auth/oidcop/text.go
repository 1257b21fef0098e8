package oidcop

import (
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// The keys of the catalogue.
const (
	textErrorTitle       = "error_title"
	textTwice            = "twice"
	textNoClient         = "no_client"
	textRedirect         = "redirect"
	textForeign          = "foreign"
	textFault            = "fault"
	textForm             = "form"
	textNoTenant         = "no_tenant"
	textWhichTenant      = "which_tenant"
	textTooOften         = "too_often"
	textNoProvider       = "no_provider"
	textNoCode           = "no_code"
	textDevice           = "device"
	textDeviceDone       = "device_done"
	textDeviceDoneMore   = "device_done_more"
	textDeviceDenied     = "device_denied"
	textDeviceDeniedMore = "device_denied_more"
	textSignIn           = "sign_in"
	textSignInAgain      = "sign_in_again"
	textSignOut          = "sign_out"
	textSignedOut        = "signed_out"
	textSignedOutMore    = "signed_out_more"
	textConsent          = "consent"
	textWrong            = "wrong"
	textWrongTOTP        = "wrong_totp"
	textWait             = "wait"
	textUnavailable      = "unavailable"
	textExpired          = "expired"
	textLogout           = "logout"
)

// catalogue holds the words of the pages, English and Chinese side by side.
var catalogue = map[string][2]string{
	textErrorTitle:  {"That did not work", "没有成功"},
	textTwice:       {"The program that sent you here made a mistake: it said something twice. Tell whoever looks after it.", "打开本页的程序出错：同一个参数出现了两次。请告诉该程序的管理员。"},
	textNoClient:    {"The program that sent you here is not known to this organisation. Tell whoever looks after it.", "本单位没有登记打开本页的程序。请告诉该程序的管理员。"},
	textRedirect:    {"The program that sent you here wants you sent back to an address that is not registered for it. To be safe, you stay here. Tell whoever looks after it.", "该程序要求返回一个没有登记的地址。为了安全，页面停在这里。请告诉该程序的管理员。"},
	textForeign:     {"This form was sent by another page, so nothing was done. Open this site yourself and try again.", "这个表单来自别的网页，因此没有执行。请直接打开本站再试一次。"},
	textFault:       {"Something went wrong on the box. Try again; if it stays, tell your administrator.", "服务器出了问题。请再试一次；如果还是不行，请告诉管理员。"},
	textForm:        {"The form could not be read. Go back and try again.", "无法读取表单。请返回再试一次。"},
	textNoTenant:    {"There is no such organisation here. Check the address.", "这里没有这个单位。请检查网址。"},
	textWhichTenant: {"This box serves more than one organisation. Open the address that your organisation gave you.", "这台服务器上有多个单位。请打开你所在单位提供的网址。"},
	textNoProvider:  {"There is no such way to sign in here any more. Go back to the sign-in page.", "这里没有（或不再有）这种登录方式。请返回登录页。"},
	textTooOften:    {"Too many codes were tried. Wait ten minutes, then try again.", "尝试次数太多。请等十分钟再试。"},
	textNoCode:      {"There is no such code, or it has expired. Look at the device again; a new code may be there.", "没有这个代码，或者代码已过期。请再看一眼设备，上面可能已有新代码。"},

	textDevice:           {"Sign in on a device", "在设备上登录"},
	textDeviceDone:       {"The device is signed in", "设备已登录"},
	textDeviceDoneMore:   {"You can close this page.", "可以关闭本页了。"},
	textDeviceDenied:     {"The device was not signed in", "设备没有登录"},
	textDeviceDeniedMore: {"You can close this page. If somebody asked you to type that code, tell your administrator.", "可以关闭本页了。如果是别人让你输入这个代码的，请告诉管理员。"},

	textSignIn:        {"Sign in", "登录"},
	textSignInAgain:   {"Sign in again", "重新登录"},
	textSignOut:       {"Sign out", "退出登录"},
	textSignedOut:     {"You are signed out", "已退出登录"},
	textSignedOutMore: {"On a computer that others use too, close the browser as well.", "如果这是公用电脑，请同时关闭浏览器。"},
	textWrong:         {"The user name or the password is wrong.", "用户名或密码不对。"},
	textWrongTOTP:     {"That code is not right, or was used already. Wait for the next one.", "验证码不对，或者已经用过。请等下一个验证码。"},
	textWait:          {"There were too many attempts. Try again in {} s.", "尝试次数太多，请{}秒后再试。"},
	textUnavailable:   {"The box can't do that right now. Try again in a moment.", "服务器暂时无法处理。请稍后再试。"},
	textExpired:       {"That took too long. Please begin again.", "等待时间太长，请重新开始。"},
	textLogout:        {"The program asked to sign you out in a way that can't be trusted. You are still signed in.", "该程序的退出请求不可信，你仍处于登录状态。"},
	textConsent:       {"Is this all right?", "是否同意？"},

	"username": {"User name", "用户名"}, "password": {"Password", "密码"},
	"keep": {"Keep me signed in on this device", "在本设备上保持登录"}, "keep_more": {"Only if nobody else uses it.", "仅限你一个人使用的设备。"},
	"of": {"{}: ", "{}："}, "go": {"Sign in", "登录"}, "or": {"or", "或"}, "with": {"Sign in with", "使用以下账号登录："}, "down": {"does not answer right now", "暂时没有回应"},
	"ext_down":    {"can't be reached right now. You can still sign in here with your user name and password.", "暂时无法连接。你仍可在这里用用户名和密码登录。"},
	"ext_refused": {"the sign-in there was not completed.", "那边的登录没有完成。"},
	"ext_unknown": {"you signed in there, but nobody here is linked with that account. Ask your administrator.", "你已在那边登录，但这里没有对应的账号。请联系管理员。"},
	"ext_lie":     {"its answer can't be trusted, so you were not signed in. Tell your administrator.", "对方的应答不可信，因此没有登录。请告诉管理员。"},
	"ext_clock":   {"the clock of this box is not set, so what others say can't be checked. Sign in with your password.", "这台服务器的时间还没有设置，无法核对那边的应答。请用密码登录。"},
	"ext_expired": {"that took too long, or was begun in another browser. Please begin again.", "等待时间太长，或不是在这个浏览器开始的。请重新开始。"},
	"ext_first":   {"to link that account, sign in here first.", "要关联那个账号，请先在这里登录。"},
	"ext_taken":   {"that account is linked with somebody else here already.", "那个账号已关联到这里的其他人。"},
	"forgot":      {"Forgot your password? Your teacher or administrator can give you a new one.", "忘记密码？请找老师或管理员重置。"},
	"totp":        {"Second step", "两步验证"}, "totp_more": {"Type the six digits that your authenticator app shows, or one of your recovery codes.", "请输入身份验证器应用显示的六位数字，或一个恢复码。"},
	"code": {"Code", "验证码"}, "continue": {"Continue", "继续"}, "back": {"Begin again", "重新开始"},
	"totp_setup": {"Set up a second step", "开启两步验证"}, "totp_setup_more": {"Your organisation asks for a second step. Scan this with an authenticator app, or type the key into it; then type the six digits that it shows.", "本单位要求两步验证。请用身份验证器应用扫描此图，或手动输入密钥，再填写应用显示的六位数字。"},
	"secret":       {"Key: ", "密钥："},
	"new_password": {"Choose your own password", "设置自己的密码"}, "new_password_more": {"The one you typed was given to you by somebody. Choose one that only you know.", "刚才的密码是别人给你的。请设置一个只有你知道的密码。"},
	"new_password_field": {"New password", "新密码"},
	"recovery":           {"Keep these codes", "请保存恢复码"}, "recovery_more": {"Each of them lets you in once if you lose your phone. They are shown only now: write them down.", "手机丢失时，每个恢复码可用一次。它们只显示这一次，请抄写保存。"},

	"consent_wants": {"{*} would like to:", "{*}希望："}, "consent_as": {"You are signed in as {*} ({})", "当前登录：{*}（{}）"}, "consent_switch": {"Use another account", "换一个账号"},
	"consent_back": {"Afterwards you are sent to", "之后将前往"}, "allow": {"Allow", "同意"}, "deny": {"Don't allow", "不同意"},
	"consent_device": {"Only agree if you see this very code on a device in front of you:", "只有当你面前的设备上显示同样的代码时才同意："},
	"scope_openid":   {"know that it is you", "确认你的身份"}, "scope_profile": {"see your name, user name, role and classes", "查看你的姓名、用户名、角色和班级"},
	"scope_email": {"see your e-mail address", "查看你的电子邮箱"}, "scope_offline_access": {"stay signed in when you are not there", "在你离开后保持登录"},
	"scope_chat": {"read and write your messages", "读取和发送你的消息"}, "scope_admin": {"do everything that you may do here, administration too", "以你的身份执行一切操作，包括管理"},

	"via": {"You came in through {*}, and are still signed in there. Whoever uses this browser next could come in as you.", "你是通过“{*}”登录的，那边仍处于登录状态。下一个使用此浏览器的人可能以你的身份登录。"}, "via_out": {"Sign out there too", "同时退出那边的登录"},
	"device_more": {"Type the code that the device shows.", "请输入设备上显示的代码。"}, "device_code": {"Code on the device", "设备上的代码"},
	"signout_more": {"Do you want to sign out on this device?", "要在这台设备上退出登录吗？"}, "stay": {"Stay signed in", "保持登录"}, "home": {"To the messages", "返回消息"},
}

// text returns the words of a key; an unknown key is its own.
func text(lang, key string) string {
	words, ok := catalogue[key]
	if !ok {
		return key
	}
	if strings.HasPrefix(lang, "zh") {
		return words[1]
	}
	return words[0]
}

// gap is where a name or a figure stands in a text; {*} is a strong one.
var gap = regexp.MustCompile(`\{\*?\}`)

// textOf returns the words of a key with names in its gaps. Between Chinese and
// Latin characters it leaves a space, as the client does.
func textOf(lang, key string, names ...string) template.HTML {
	words := text(lang, key)
	var b strings.Builder
	var last rune
	put := func(s, open, shut string) {
		if s == "" {
			return
		}
		first, _ := utf8.DecodeRuneInString(s)
		if strings.HasPrefix(lang, "zh") && (han(last) && latin(first) || latin(last) && han(first)) {
			b.WriteByte(' ')
		}
		b.WriteString(open + template.HTMLEscapeString(s) + shut)
		last, _ = utf8.DecodeLastRuneInString(s)
	}
	for _, name := range names {
		at := gap.FindStringIndex(words)
		if at == nil {
			break
		}
		put(words[:at[0]], "", "")
		if at[1]-at[0] > len("{}") {
			put(name, "<strong>", "</strong>")
		} else {
			put(name, "", "")
		}
		words = words[at[1]:]
	}
	put(words, "", "")
	return template.HTML(b.String()) //nolint:gosec // all of it was escaped above
}

func han(r rune) bool { return unicode.Is(unicode.Han, r) }

func latin(r rune) bool {
	return unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Nd)
}

var (
	languages = []language.Tag{language.English, language.SimplifiedChinese}
	matcher   = language.NewMatcher(languages)
	langNames = []string{"en", "zh-CN"}
)

// languageOf is the language of a page: what the program asked for (ui_locales),
// also while the person signs in on the way to it, else the browser's.
func languageOf(r *http.Request) string {
	locales := r.FormValue("ui_locales")
	if locales == "" {
		if u, err := url.Parse(r.FormValue("next")); err == nil {
			locales = u.Query().Get("ui_locales")
		}
	}
	if len(locales) > 200 {
		locales = ""
	}
	accept := r.Header.Get("Accept-Language")
	if len(accept) > 1000 {
		accept = ""
	}
	_, i := language.MatchStrings(matcher, strings.ReplaceAll(locales, " ", ","), accept)
	return langNames[i]
}
