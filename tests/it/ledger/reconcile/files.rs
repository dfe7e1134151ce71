//! Statements in the providers' own forms, made of few rows.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Amounts of fen, in yuan.
fn yuan(fen: i64) -> String {
    format!("{}{}.{:02}", if fen < 0 { "-" } else { "" }, fen.abs() / 100, fen.abs() % 100)
}

/// Of WeChat Pay: each cell behind a back-tick.
#[derive(Default)]
pub struct Wechat(Vec<Vec<String>>);

const WECHAT: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,\
                      应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,\
                      商户数据包,手续费,费率,订单金额,申请退款金额,费率备注";

impl Wechat {
    pub fn pays(&mut self, name: &str, fen: i64, (day, fee): (&str, &str)) {
        self.line(&[
            &format!("{day} 11:04:05"),
            "wx1",
            "1900000001",
            "0",
            "",
            &format!("{name}-pay"),
            &format!("{name}-order"),
            "o1",
            "JSAPI",
            "SUCCESS",
            "OTHERS",
            "CNY",
            &yuan(fen),
            "0.00",
            "0",
            "0",
            "0.00",
            "0.00",
            "",
            "",
            "tea",
            "",
            fee,
            "0.60%",
            &yuan(fen),
            "0.00",
            "",
        ]);
    }

    pub fn gives_back(&mut self, name: &str, (fen, total): (i64, i64), (day, state): (&str, &str)) {
        self.line(&[
            &format!("{day} 11:04:05"),
            "wx1",
            "1900000001",
            "0",
            "",
            &format!("{name}-pay"),
            &format!("{name}-order"),
            "o1",
            "JSAPI",
            "REFUND",
            "OTHERS",
            "CNY",
            "0.00",
            "0.00",
            &format!("{name}-back"),
            &format!("o{name}-back"),
            &yuan(fen),
            "0.00",
            "ORIGINAL",
            state,
            "tea",
            "",
            "0.00000",
            "0.60%",
            &yuan(total),
            &yuan(fen),
            "",
        ]);
    }

    fn line(&mut self, cells: &[&str]) {
        self.0.push(cells.iter().map(|cell| format!("`{cell}")).collect());
    }

    pub fn bytes(&self) -> Vec<u8> {
        let lines: String = self.0.iter().map(|cells| cells.join(",") + "\r\n").collect();
        let ends = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n`1,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\r\n";
        format!("\u{feff}{WECHAT}\r\n{lines}{ends}").into_bytes()
    }

    /// As it is downloaded with `tar_type=GZIP`.
    pub fn zipped(&self) -> Vec<u8> {
        let mut zipped = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        std::io::Write::write_all(&mut zipped, &self.bytes()).unwrap();
        zipped.finish().unwrap()
    }
}

/// Of Alipay: GBK in a zip, beside its summary.
pub struct Alipay {
    day: String,
    rows: Vec<String>,
}

const ALIPAY: &str = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,\
                      商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,\
                      商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注";

impl Alipay {
    pub fn of(day: &str) -> Alipay {
        Alipay { day: day.to_owned(), rows: vec![] }
    }

    pub fn pays(&mut self, name: &str, fen: i64, fee: &str) {
        self.row((name, "交易"), &yuan(fen), ("", fee));
    }

    pub fn gives_back(&mut self, name: &str, fen: i64, fee: &str) {
        self.row((name, "退款"), &yuan(-fen), (&format!("{name}-back"), fee));
    }

    fn row(&mut self, (name, kind): (&str, &str), amount: &str, (refund, fee): (&str, &str)) {
        let at = format!("{} 11:04:05", self.day);
        self.rows.push(format!(
            "{name}-pay\t,{name}-order\t,{kind},tea,{at},{at},,,,,x***@y\t,{amount},{amount},0.00,0.00,0.00,0.00,0.00,,0.00,0.00,\
             {refund}\t,{fee},0.00,\r\n"
        ));
    }

    fn text(&self) -> String {
        let [year, month, day] = self.day.split('-').collect::<Vec<_>>().try_into().unwrap();
        let rows: String = self.rows.concat();
        format!(
            "#支付宝业务明细查询\r\n#账号：[20880000000000010156]\r\n#起始日期：[{year}年{month}月{day}日 00:00:00]   \
             终止日期：[{year}年{month}月{day}日 24:00:00]\r\n#-----------------------------------------业务明细列表\
             ----------------------------------------\r\n{ALIPAY}\r\n{rows}#-----------------------------------------业务明细列表结束\
             ------------------------------------\r\n#导出时间：[2026年01月05日 10:00:00]\r\n"
        )
    }

    pub fn zipped(&self, folder: &Path) -> Vec<u8> {
        let (plain, zipped) = (folder.join("alipay.csv"), folder.join("alipay.zip"));
        fs::write(&plain, self.text()).unwrap();
        let script = "import sys, zipfile\n\
                      z = zipfile.ZipFile(sys.argv[2], 'w', zipfile.ZIP_DEFLATED)\n\
                      text = open(sys.argv[1], encoding='utf-8', newline='').read()\n\
                      z.writestr('2088_20260102_summary(汇总).csv', '#汇总\\r\\n'.encode('gbk'))\n\
                      z.writestr('2088_20260102_业务明细.csv', text.encode('gbk'))\n\
                      z.close()";
        let made = Command::new("python3").args(["-c", script]).args([&plain, &zipped]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::read(&zipped).unwrap()
    }
}
