//! Files of each form, whole and broken.

use std::io::{Cursor, Write};

use super::*;
use crate::{alipay, hmac, stripe, wechatpay};

fn rows(provider: &Provider, file: &[u8]) -> Result<(Vec<StatementRow>, Summary), String> {
    let mut rows = vec![];
    let done = read::<StatementError>(provider, Cursor::new(file), |row| {
        rows.push(row);
        Ok(())
    });
    done.map(|summary| (rows, summary)).map_err(|e| e.to_string())
}

#[track_caller]
fn fails(provider: &Provider, file: &[u8], why: &str) {
    let told = rows(provider, file).unwrap_err();
    assert!(told.contains(why), "{told}");
}

const ALIPAY: &str = "#支付宝业务明细查询\r\n#起始日期：[2026年01月02日 00:00:00]   终止日期：[2026年01月02日 24:00:00]\r\n\
    #-----业务明细列表-----\r\n\
    支付宝交易号,商户订单号,业务类型,完成时间,订单金额（元）,退款批次号/请求号,服务费（元）,备注\r\n\
    T1\t,A-1\t,交易,2026-01-02 00:00:01,100.00,\t,-0.60,\r\n\
    T1\t,A-1\t,退款,2026-01-02 23:59:59,-30.00,R-1\t,0.18,\r\n\
    T9\t,\t,转账,2026-01-02 12:00:00,5.00,\t,0.00,\r\n\
    #-----业务明细列表结束-----\r\n#导出时间：[2026年01月03日 10:00:00]\r\n";

fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn alipay_is_read_in_a_zip_or_not_in_gbk_or_utf_8() {
    let gbk = encoding_rs::GBK.encode(ALIPAY).0.into_owned();
    let zip = zipped(&[("x_汇总.csv", b"#\r\n"), ("x_业务明细.csv", &gbk)]);
    for file in [ALIPAY.as_bytes(), &gbk, &zip, ALIPAY.replace("\r\n", "\n").as_bytes()] {
        let (rows, summary) = rows(&alipay::PROVIDER, file).unwrap();
        assert_eq!(summary, Summary { rows: 2, day: Some(Date::constant(2026, 1, 2)) });
        let [paid, back] = <[StatementRow; 2]>::try_from(rows).unwrap();
        assert_eq!((paid.line, paid.kind, &*paid.number, paid.amount_minor), (5, RowKind::Payment, "T1", 10_000));
        assert_eq!((paid.out_trade_no.as_deref(), paid.fee_minor), (Some("A-1"), Some(Decimal::from(60))));
        assert_eq!(paid.at_ms, Some(1_767_283_201_000), "midnight is Shanghai's");
        assert_eq!((back.kind, &*back.number, back.payment.as_deref()), (RowKind::Refund, "R-1", Some("T1")));
        assert_eq!((back.amount_minor, back.fee_minor), (3_000, Some(Decimal::from(-18))));
    }
    fails(&alipay::PROVIDER, &zip[..zip.len() / 2], "zip cannot be read");
    fails(&alipay::PROVIDER, &zipped(&[("x_汇总.csv", b"#\r\n")]), "no file of details");
    fails(&alipay::PROVIDER, ALIPAY.split("#-----业务明细列表结束").next().unwrap().as_bytes(), "it is cut");
    fails(&alipay::PROVIDER, (ALIPAY.to_owned() + ALIPAY).as_bytes(), "goes on after its end");
    fails(&alipay::PROVIDER, ALIPAY.replace("100.00", "100.005").as_bytes(), "line 5: `订单金额(元)`");
    fails(&alipay::PROVIDER, ALIPAY.replace("23:59:59,-30.00,", "23:59:59,").as_bytes(), "line 6: 7 cells");
    fails(&alipay::PROVIDER, ALIPAY.replace("业务类型", "类型").as_bytes(), "no column `业务类型`");
}

const WECHAT: &str = "\u{feff}交易时间,微信订单号,商户订单号,交易状态,货币种类,应结订单金额,微信退款单号,商户退款单号,\
    退款金额,退款状态,手续费,订单金额,申请退款金额\r\n\
    `2026-01-02 11:04:05,`W1,`A-1,`SUCCESS,`CNY,`99.00,`0,`0,`0.00,`,`0.59400,`100.00,`0.00\r\n\
    `2026-01-02 12:04:05,`W1,`A-1,`REFUND,`CNY,`0.00,`50,`R-1,`29.00,`PROCESSING,`-0.18000,`100.00,`30.00\r\n\
    `2026-01-02 12:04:05,`W1,`A-1,`REFUND,`CNY,`0.00,`51,`R-2,`30.00,`CHANGE,`0.00000,`100.00,`30.00\r\n\
    总交易单数,应结订单总金额,退款总金额\r\n`3,`99.00,`30.00\r\n";

#[test]
fn wechat_pay_is_read_plain_or_zipped() {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    gzip.write_all(WECHAT.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for file in [WECHAT.as_bytes(), &gzip] {
        let (rows, summary) = rows(&wechatpay::PROVIDER, file).unwrap();
        assert_eq!(summary, Summary { rows: 3, day: None });
        let [paid, back, failed] = <[StatementRow; 3]>::try_from(rows).unwrap();
        assert_eq!((&*paid.number, paid.amount_minor, paid.status), ("W1", 10_000, RowStatus::Succeeded));
        assert_eq!(paid.fee_minor, Some("59.4".parse().unwrap()), "a fraction of a fen");
        assert_eq!((&*back.number, back.amount_minor, back.status), ("50", 3_000, RowStatus::Pending));
        assert_eq!((back.payment.as_deref(), back.out_refund_no.as_deref()), (Some("W1"), Some("R-1")));
        assert_eq!((failed.status, failed.line), (RowStatus::Failed, 4));
    }
    fails(&wechatpay::PROVIDER, &gzip[..gzip.len() - 9], "cannot be read");
    fails(&wechatpay::PROVIDER, WECHAT.split("总交易").next().unwrap().as_bytes(), "it is cut");
    fails(&wechatpay::PROVIDER, WECHAT.split("`3,`99").next().unwrap().as_bytes(), "it is cut");
    fails(&wechatpay::PROVIDER, WECHAT.replace("`100.00,`0.00\r", "`1e2,`0.00\r").as_bytes(), "line 2: `订单金额`");
    fails(
        &wechatpay::PROVIDER,
        WECHAT.replace("`REFUND,`CNY,`0.00,`50", "`REFUND,`CNY,`0.00,`0").as_bytes(),
        "line 3:",
    );
    fails(&wechatpay::PROVIDER, (WECHAT.to_owned() + "`more\r\n").as_bytes(), "goes on after its end");
    fails(&wechatpay::PROVIDER, WECHAT.replace(",`30.00\r\n总", ",`x\r\n总").as_bytes(), "line 4");
    fails(&wechatpay::PROVIDER, WECHAT.replace("CHANGE", "WAT").as_bytes(), "line 4: `退款状态`");
    assert_eq!(rows(&wechatpay::PROVIDER, WECHAT.trim_end().as_bytes()).unwrap().0.len(), 3, "no newline at its end");
    let comma = WECHAT.replacen("`A-1,", "`A,1,", 1);
    assert_eq!(rows(&wechatpay::PROVIDER, comma.as_bytes()).unwrap().0[0].out_trade_no.as_deref(), Some("A,1"));
    let in_money = WECHAT.replace("`PROCESSING,`-0.18000,`100.00,`30.00", "`PROCESSING,`-0.18000,`100.00,`0.00");
    assert_eq!(rows(&wechatpay::PROVIDER, in_money.as_bytes()).unwrap().0[1].amount_minor, 2_900);
    fails(&wechatpay::PROVIDER, b"", "empty");
    fails(&wechatpay::PROVIDER, &[0xff, 0xfe, 0x00], "no UTF-8");
}

#[test]
fn stripe_is_read_in_both_forms() {
    let report = "balance_transaction_id,created_utc,reporting_category,gross,fee,net,currency,source_id,charge_id,\
        payment_intent_id\ntxn_1,2026-01-02 03:04:05,charge,12.34,0.66,11.68,usd,ch_1,ch_1,pi_1\n\
        txn_2,2026-01-02 03:04:06,refund,-2.00,0.00,-2.00,usd,re_1,ch_1,pi_1\n\
        txn_3,2026-01-02 03:04:07,payout,-9.00,0.00,-9.00,usd,po_1,,\n\
        txn_4,2026-01-02 03:04:08,refund_failure,2.00,0.00,2.00,usd,re_1,ch_1,pi_1\n\
        txn_5,2026-01-02 03:04:08,charge,500,0,500,jpy,ch_2,ch_2,\n";
    let (found, _) = rows(&stripe::PROVIDER, report.as_bytes()).unwrap();
    let told: Vec<_> = found.iter().map(|row| (row.kind, &*row.number, row.amount_minor, row.status)).collect();
    assert_eq!(
        told,
        [
            (RowKind::Payment, "pi_1", 1_234, RowStatus::Succeeded),
            (RowKind::Refund, "re_1", 200, RowStatus::Succeeded),
            (RowKind::Refund, "re_1", 200, RowStatus::Failed),
            (RowKind::Payment, "ch_2", 500, RowStatus::Succeeded),
        ]
    );
    assert_eq!((found[0].fee_minor, found[0].at_ms), (Some(Decimal::from(66)), Some(1_767_323_045_000)));
    let history = "id,Type,Source,Amount,Fee,Net,Currency,Created (UTC),PaymentIntent ID\n\
        txn_1,charge,ch_1,12.34,0.66,11.68,usd,2026-01-02 03:04,pi_1\n";
    assert_eq!(&*rows(&stripe::PROVIDER, history.as_bytes()).unwrap().0[0].number, "pi_1");
    fails(&stripe::PROVIDER, history.replace("PaymentIntent ID", "x").as_bytes(), "no column `payment_intent_id`");
    fails(&stripe::PROVIDER, b"a,b\n", "no column `reporting_category` or `Type`");
}

#[test]
fn any_other_names_its_columns() {
    let file = "number,kind,amount,currency,fee_minor,status,at\n\
        p1,payment,12.34,CNY,0.5,SUCCESS,2026-01-02T03:04:05Z\np2,refund.succeeded,5,JPY,,,\n\"p3\",payment,1,CNY,,failed,\n";
    let (found, _) = rows(&hmac::PROVIDER, file.as_bytes()).unwrap();
    assert_eq!((found[0].amount_minor, found[0].fee_minor), (1_234, Some("0.5".parse().unwrap())));
    assert_eq!((found[1].amount_minor, found[1].kind, found[1].line), (5, RowKind::Refund, 3));
    assert_eq!((&*found[2].number, found[2].status), ("p3", RowStatus::Failed));
    fails(&hmac::PROVIDER, b"number,kind,amount,currency,colour\n", "unknown column `colour`");
    fails(&hmac::PROVIDER, b"number,kind,currency\n", "no column `amount_minor` or `amount`");
    fails(&hmac::PROVIDER, b"number,kind,amount,currency\np1,gift,1,CNY\n", "line 2: `kind` is \"gift\"");
    fails(&hmac::PROVIDER, b"number,kind,amount,currency\np1,payment,1.001,CNY\n", "fraction of a minor unit");
    for amount in ["0", "-5", "1_000", "+1", "1e3", "99999999999999999999"] {
        fails(&hmac::PROVIDER, format!("number,kind,amount,currency\np1,payment,{amount},CNY\n").as_bytes(), "line 2:");
    }
    fails(&hmac::PROVIDER, b"number,kind,amount,currency\np1,payment,1,XXZ\n", "ISO 4217");
    fails(&hmac::PROVIDER, b"number,kind,amount,currency\np1,payment\n", "may be cut");
}

/// A line, over and over.
struct Endless(&'static [u8], usize);

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        for byte in out.iter_mut() {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(out.len())
    }
}

impl Seek for Endless {
    fn seek(&mut self, _: std::io::SeekFrom) -> std::io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn a_quote_that_never_ends_does_not_fill_the_memory() {
    let file = Endless(b"number,kind,amount,currency\n\"", 0);
    let told = read::<StatementError>(&hmac::PROVIDER, file, |_| Ok(())).unwrap_err().to_string();
    assert!(told.contains("longer than 4 MiB") || told.contains("line"), "{told}");
}
