//! Python's pickle (PEP 307, PEP 3154), as far as a `state_dict` of PyTorch needs it.
//!
//! A pickle is a program for a stack machine, and its calls can do anything in Python. This machine only supports the
//! calls that make tensors from storages; it turns them into values and rejects all others. Its memory is proportional
//! to the length of the program, because values are in one list and refer to each other by number.

use std::collections::HashMap;

/// The number of a value.
pub(super) type Id = usize;

/// A value that a program makes.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// An irrelevant value: `None`, a float, the attributes of an object.
    Other,
    Int(i64),
    Text(String),
    /// A class or a function.
    Global(String),
    /// A tuple or a list.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A storage, that is, numbers in the file, with the number of its description (`persistent_id`).
    Storage(Id),
    /// A view of a storage: storage, offset, shape, strides.
    Tensor([Id; 4]),
}

/// The machine's memory after a program has run.
#[derive(Debug)]
pub(super) struct Values(Vec<Value>);

/// An entry of the stack.
#[derive(Clone, Copy)]
enum Slot {
    Mark,
    Value(Id),
}

struct Machine<'a> {
    program: &'a [u8],
    values: Values,
    stack: Vec<Slot>,
    memo: HashMap<u32, Id>,
}

const CUT: &str = "it is cut off: its pickle ends too early; download it again";

impl Values {
    /// Runs a program. Returns all values, the number of its result, and the bytes after its end.
    ///
    /// # Errors
    /// If the program is damaged or needs a call that only Python could do.
    pub(super) fn run(program: &[u8]) -> Result<(Self, Id, &[u8]), String> {
        let mut machine = Machine {
            program,
            values: Self(Vec::new()),
            stack: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let result = machine.pop()?;
        Ok((machine.values, result, machine.program))
    }

    /// All values that the program made.
    pub(super) fn all(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        self.0.get(id).unwrap_or(&Value::Other)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// A value as a whole number that is not negative.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

impl Machine<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.program.split_at_checked(count).ok_or(CUT)?;
        self.program = rest;
        Ok(taken)
    }

    /// Reads an unsigned little-endian number of up to eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn length(&mut self, width: usize) -> Result<usize, String> {
        usize::try_from(self.number(width)?).map_err(|_| CUT.to_owned())
    }

    fn text(&mut self, length: usize) -> Result<Value, String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text in the pickle is not UTF-8")?;
        Ok(Value::Text(text.to_owned()))
    }

    /// Reads text up to the next line feed.
    fn line(&mut self) -> Result<String, String> {
        let length = self.program.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.values.0.push(value);
        self.stack.push(Slot::Value(self.values.0.len() - 1));
    }

    fn pop(&mut self) -> Result<Id, String> {
        match self.stack.pop() {
            Some(Slot::Value(id)) => Ok(id),
            _ => Err("the pickle takes more from its stack than it has put there".to_owned()),
        }
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(Slot::Value(id)) => Ok(*id),
            _ => Err("the pickle looks at an empty stack".to_owned()),
        }
    }

    /// Pops all values above the last mark.
    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.stack.iter().rposition(|slot| matches!(slot, Slot::Mark));
        let items = self.stack.split_off(mark.ok_or("the pickle has lost a mark")?);
        let ids = items.into_iter().filter_map(|slot| match slot {
            Slot::Value(id) => Some(id),
            Slot::Mark => None,
        });
        Ok(ids.collect())
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let mut items = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Value::Sequence(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.values.0[list] {
            Value::Sequence(list) => list.extend(items),
            _ => return Err("the pickle appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.values.0[dict] {
            Value::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err("the pickle sets keys of something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let name = format!("{module}.{name}");
        let is_storage = name
            .strip_prefix("torch.")
            .is_some_and(|name| name.ends_with("Storage"));
        const CALLS: [&str; 5] = [
            "collections.OrderedDict",
            "torch._utils._rebuild_tensor",
            "torch._utils._rebuild_tensor_v2",
            "torch._utils._rebuild_parameter",
            "torch.Size",
        ];
        if !is_storage && !CALLS.contains(&name.as_str()) {
            return Err(format!(
                "it asks Python to use {name:?}, which a file of weights has no need for; convert it to safetensors if \
                 you trust it"
            ));
        }
        self.push(Value::Global(name));
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(name) = self.values.get(function) else {
            return Err("the pickle calls something that is no function".to_owned());
        };
        let arguments = self.values.sequence(arguments).unwrap_or_default();
        let value = match (name.as_str(), arguments) {
            ("collections.OrderedDict", []) => Value::Dict(Vec::new()),
            // The result is the argument itself. A copy for each call could take any amount of memory.
            ("torch.Size" | "torch._utils._rebuild_parameter", [same, ..]) => {
                let same = Slot::Value(*same);
                self.stack.push(same);
                return Ok(());
            }
            (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                [storage, offset, shape, strides, ..],
            ) => Value::Tensor([*storage, *offset, *shape, *strides]),
            _ => return Err(format!("the pickle calls {name} with arguments that are not supported")),
        };
        self.push(value);
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let id = self.top()?;
        self.memo.insert(place, id);
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<(), String> {
        let id = u32::try_from(place).ok().and_then(|place| self.memo.get(&place));
        self.stack
            .push(Slot::Value(*id.ok_or("the pickle recalls what it has not stored")?));
        Ok(())
    }

    /// Executes one instruction; returns false at the end of the program.
    fn step(&mut self) -> Result<bool, String> {
        match self.take(1)?[0] {
            b'.' => return Ok(false),
            // PROTO, FRAME
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            // NONE, NEWTRUE, NEWFALSE
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            // BININT1, BININT2, BININT
            b'K' => {
                let number = self.number(1)?;
                self.push(Value::Int(number as i64));
            }
            b'M' => {
                let number = self.number(2)?;
                self.push(Value::Int(number as i64));
            }
            b'J' => {
                let number = self.number(4)?;
                self.push(Value::Int(i64::from(number as u32 as i32)));
            }
            // LONG1: two's complement of any length
            0x8a => {
                let length = self.length(1)?;
                let bytes = self.take(length)?;
                let mut number = [if bytes.last().is_some_and(|byte| *byte > 0x7F) {
                    0xFF
                } else {
                    0
                }; 8];
                let value = match number.get_mut(..length) {
                    Some(place) => {
                        place.copy_from_slice(bytes);
                        Value::Int(i64::from_le_bytes(number))
                    }
                    None => Value::Other,
                };
                self.push(value);
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8; BINSTRING, SHORT_BINSTRING
            opcode @ (b'X' | 0x8c | 0x8d | b'T' | b'U') => {
                let width = match opcode {
                    0x8c | b'U' => 1,
                    0x8d => 8,
                    _ => 4,
                };
                let length = self.length(width)?;
                let text = self.text(length)?;
                self.push(text);
            }
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT
            b')' | b']' => self.push(Value::Sequence(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'(' => self.stack.push(Slot::Mark),
            // TUPLE, LIST, TUPLE1, TUPLE2, TUPLE3
            b't' | b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Sequence(items));
            }
            opcode @ (0x85..=0x87) => self.tuple(usize::from(opcode - 0x84))?,
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let place = self.number(1)?;
                self.remember(place as u32)?;
            }
            b'r' => {
                let place = self.number(4)?;
                self.remember(place as u32)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let place = self.number(1)?;
                self.recall(place)?;
            }
            b'j' => {
                let place = self.number(4)?;
                self.recall(place)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id| self.values.text(id).unwrap_or_default().to_owned();
                let (module, name) = (text(module), text(name));
                self.global(&module, &name)?;
            }
            // REDUCE
            b'R' => self.call()?,
            // BUILD sets attributes of an object; the attributes of a dictionary of weights do not matter.
            b'b' => drop(self.pop()?),
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Storage(id));
            }
            opcode => {
                return Err(format!(
                    "the pickle has the instruction {opcode:#04x}, which is not supported"
                ));
            }
        }
        Ok(true)
    }
}
