mod answers;
mod contents;
mod requests;
